"""Shares of one-hot rows from trees of seeds, in one call of the kernel where the processor has vector AES.

protocols/dpf.py says what they are, and expands them itself where this function does nothing.
"""

from __future__ import annotations

from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.words import Words


def expand_ids(keys: bytes, holder: int, seeds: Words, corrections: Words, leaves: Words, out: Words) -> bool:
    """Overwrite `out`, (n, rows) mod 2^32, with a holder's shares of n one-hot rows; False where it cannot.

    keys: of the generators LEFT, RIGHT and LEAF (seed_tree.py), 16 bytes each. holder: 0 or 1. seeds, (n, 2),
    corrections, (n, depth, 2), and leaves, (n, 4): contiguous, as `dpf.Keys` holds them. Cost: three blocks
    of AES for four words.
    """
    kernel = native()
    if kernel is None:
        return False
    made: bool = kernel.expand_ids(keys, holder, seeds, corrections, leaves, out.shape[1], out)
    return made
