"""What a server keeps as long as it serves is not walked by the garbage collector; what comes later is."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, weakref
from onnxpuma.roles.server.lasting import leave_uncollected

class Node: pass

def ring():
    one, other = Node(), Node()
    one.other, other.other = other, one
    return one

gc.disable()
kept, dropped = ring(), weakref.ref(ring())
leave_uncollected()
assert dropped() is None, "garbage of before stays"
assert gc.get_threshold()[0] > 10_000, "it looks after every few hundred objects"
assert not any(found is kept for found in gc.get_objects()), "a kept object is still walked"
later = weakref.ref(ring())
gc.collect()
assert later() is None, "garbage of later stays"
"""


def test_lasting_objects_are_left_alone_and_later_garbage_is_collected() -> None:
    """In a process of its own: the tests' own objects stay under the collector."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
