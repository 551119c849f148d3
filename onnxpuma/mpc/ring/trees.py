"""Trees of seeds along one path a row, grown by the kernel in one call where the processor has AES.

protocols/prefixes.py says what they are, and grows them itself where these functions return None.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.noted import noted
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
    limbs = numbers.low, numbers.high, factors.low, factors.high
    found = _grown(keys, bits, lengths, path, roots, None, *limbs, _DEALER)
    return None if found is None else (found[0], *_both(found[1]))


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
    limbs = numbers.low, numbers.high, factors.low, factors.high
    found = _grown(keys, bits, lengths, path, root, corrections, *limbs, holder)
    return None if found is None else _both(found[1])


def _both(limbs: Words) -> tuple[Long, Long]:
    return Long(limbs[0], limbs[1]), Long(limbs[2], limbs[3])


@noted
def _grown(
    keys: bytes,
    bits: int,
    lengths: bytes,
    path: Words,
    roots: Words,
    corrections: Words | None,
    low: Words,
    high: Words,
    factor_low: Words,
    factor_high: Words,
    holder: int,
) -> tuple[Words, Words] | None:
    """The corrections of seeds, which the dealer finds, and the limbs of both values."""
    kernel = native()
    if kernel is None:
        return None
    out = np.empty((4, len(path), len(lengths)), np.uint64)
    seeds = np.empty((len(path), 2 * lengths[-1]), np.uint64) if corrections is None else corrections
    given: list[Any] = [path, roots, seeds, low, high, factor_low, factor_high]
    ready = [np.ascontiguousarray(words, np.uint64) for words in given]
    return (ready[2], out) if kernel.grow(keys, bits, lengths, *ready, out, holder) else None
