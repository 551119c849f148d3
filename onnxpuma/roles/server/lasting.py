"""What a server keeps as long as it serves: its modules and the graphs of its models."""

from __future__ import annotations

import gc

# Objects beyond those that have gone, until the collector looks at the new ones; how often it does until it
# looks at those that stayed, and so on. A plan makes thousands that stay, of which none is garbage.
_PATIENCE = 20_000, 20, 10


def leave_uncollected() -> None:
    """Take the objects of this process that live now out of the garbage collector's sight, for good.

    A full collection walks all of them each time, and a server's plans let it begin one every few tokens.
    For a process that serves until it ends, once its models are loaded: a cycle among these objects that is
    dropped later keeps its memory. Garbage of before is collected first. Later objects are walked less often
    than Python does by default.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_PATIENCE)
