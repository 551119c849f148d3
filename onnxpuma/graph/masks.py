"""Distinguishes masks that follow from the order of positions from masks that training or pruning left."""

from __future__ import annotations

import numpy as np

from onnxpuma.graph.round_numbers import is_round
from onnxpuma.standard.mask_values import MASKED

_SHORTEST = 3


def has_order(kept: np.ndarray) -> bool:
    """Whether booleans follow, over their last two axes, from the distance of two positions or from blocks
    of positions: a triangle, a band, near or far positions, the diagonal, blocks along it, or blocks and a
    triangle. All other axes repeat one table, of at least three rows and columns.
    """
    if kept.ndim < 2 or min(kept.shape[-2:]) < _SHORTEST:
        return False
    tables = kept.reshape(-1, *kept.shape[-2:])
    table = tables[0]
    if not (_is_band(table) or _is_blocks(table)):
        return False
    return len(tables) == 1 or bool(np.all(tables == table))


def _is_band(table: np.ndarray) -> bool:
    """Whether every diagonal is constant, and diagonals of one value are adjacent."""
    if not np.array_equal(table[1:4, 1:4], table[0:3, 0:3]) or not np.array_equal(
        table[1:, 1:], table[:-1, :-1]
    ):
        return False
    along = np.concatenate([table[::-1, 0], table[0, 1:]])
    return 1 <= int(np.count_nonzero(along[1:] != along[:-1])) <= 2


def _is_blocks(table: np.ndarray) -> bool:
    """Whether positions see their own block, all of one size, or the part of it that came before."""
    rows, columns = table.shape
    if rows != columns:
        return False
    for seen in (table, ~table):
        size = int(np.argmin(seen[:, 0])) if not np.all(seen[:, 0]) else 0
        if not 1 < size < rows:
            continue
        block = np.arange(rows) // size
        same = block[:, None] == block[None]
        if np.array_equal(seen, same) or np.array_equal(seen, same & np.tri(rows, dtype=bool)):
            return True
    return False


def _is_filler_mask(values: np.ndarray) -> bool:
    """Whether these are zeros and the large negative numbers that fill masks, over at least two axes."""
    if values.ndim < 2 or values.shape[-1] < 2:
        return False

    def fits(part: np.ndarray) -> bool:
        return bool(np.all((part == 0) | (part <= MASKED)))

    if not fits(values.reshape(-1)[:64]) or not fits(values):
        return False
    fillers = np.unique(values[values != 0])
    return 1 <= fillers.size <= 3 and all(is_round(float(v), coarse=True) for v in fillers)


def is_ordered_mask(values: np.ndarray) -> bool:
    """Whether reals are a mask in that order, to add (zeros and fillers) or multiply (ones and zeros)."""
    if values.ndim < 2 or min(values.shape[-2:]) < _SHORTEST:
        return False
    corner = values.reshape(-1)[:64]
    if np.all((corner == 0) | (corner == 1)):
        return bool(np.all((values == 0) | (values == 1))) and has_order(values != 0)
    return _is_filler_mask(values) and has_order(values == 0)
