"""Sums of random parts of rows, of which a range check makes many (mpc/protocols/range_check.py)."""

from __future__ import annotations

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.words import Words


def coin_sums(terms: Words, coins: Words, every: bool) -> Words:
    """(rows, n) to (rows, columns): the terms of a row, each left out, added or subtracted as a coin says.

    coins: (n, columns), uint8, of which one or two bits count. Bit 0 subtracts a term. Bit 1 lets it count;
    `every` term counts whatever bit 1 is. Cost: an addition for each row and coin, where a product with words
    1, 0 and -1 would first spread each coin to a word.
    """
    if terms.dtype.kind != "u" or coins.dtype != np.uint8 or terms.shape[1:] != coins.shape[:1]:
        raise ProtocolError(
            f"coins {coins.dtype}{coins.shape} for terms {terms.dtype}{terms.shape}",
            "give words (rows, n) and bytes (n, columns)",
        )
    terms, coins = np.ascontiguousarray(terms), np.ascontiguousarray(coins)
    out = np.empty((len(terms), coins.shape[1]), terms.dtype)
    kernel = native()
    (fallback if kernel is None else kernel).coin_sums(out, terms, coins, every)
    return out
