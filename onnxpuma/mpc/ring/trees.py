"""Trees of seeds along one path a row, grown by the kernel in one call where the processor has AES.

protocols/prefixes.py says what they are, and grows them itself where these functions return None.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.words import Words

_DEALER = -1


def deal_tree(
    keys: bytes, bits: int, lengths: bytes, path: Words, roots: Words, numbers: Long, factors: Long
) -> tuple[Words, Long, Long] | None:
    """What the dealer of numbers for prefixes sends both holders: the corrections of seeds, (n, 2 depth), and
    those of its numbers and factors, (n, lengths) each; None where there is no such kernel.

    keys: 16 bytes for each of the generators LEFT, RIGHT, NUMBER and FACTOR (seed_tree.py). lengths: of the
    prefixes of numbers of `bits` bits, ascending, a byte each; the last one is the depth. path: the dealer's
    numbers, (n,), reduced. roots: both holders', (2, n, 2). Cost: four blocks of AES a row and level, and
    four a row and length.
    """
    corrections = np.empty((len(path), 2 * lengths[-1]), np.uint64)
    found = _grown(keys, bits, lengths, path, roots, corrections, numbers, factors, _DEALER)
    return None if found is None else (corrections, *found)


def walk_tree(
    keys: bytes,
    bits: int,
    lengths: bytes,
    path: Words,
    root: Words,
    corrections: Words,
    numbers: Long,
    factors: Long,
    holder: int,
) -> tuple[Long, Long] | None:
    """Holder 0's or 1's shares of both values, (n, lengths) each, from what the dealer has sent; None where
    there is no such kernel.

    path: this holder's numbers. root: (n, 2). corrections, numbers, factors: as `deal_tree` returns them.
    Cost: three blocks of AES a row and level, and four a row and length.
    """
    return _grown(keys, bits, lengths, path, root, corrections, numbers, factors, holder)


def _grown(
    keys: bytes,
    bits: int,
    lengths: bytes,
    path: Words,
    roots: Words,
    corrections: Words,
    numbers: Long,
    factors: Long,
    holder: int,
) -> tuple[Long, Long] | None:
    kernel = native()
    if kernel is None:
        return None
    out = np.empty((4, len(path), len(lengths)), np.uint64)
    given: list[Any] = [path, roots, corrections, numbers.low, numbers.high, factors.low, factors.high]
    ready = [np.ascontiguousarray(words, np.uint64) for words in given]
    if not kernel.grow(keys, bits, lengths, *ready, out, holder):
        return None
    return Long(out[0], out[1]), Long(out[2], out[3])
