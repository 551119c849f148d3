"""Arrays of integers that count: positions, grids of them, distances of positions and their buckets.

A few numbers determine each of these forms, so no trained array has one. A codebook's index, a list of chosen
features and quantised weights have none.
"""

from __future__ import annotations

import math

import numpy as np

ONE_NUMBER = "one number"
_MOST_AXES = 8
_MOST_TOGETHER = 4
_SMALLEST_GRID = 9
_SHORTEST_BUCKETED = 4
# Fewer numbers than this must start at 0 or 1 to count as positions.
FEWEST_ANYWHERE = 8
_MOST_JUMPS = 2  # by more than one: where the sign of a distance selects one half of the buckets
_FEWEST_DISTANCES = 4


def form_of(values: np.ndarray) -> str | None:
    """The form of an array of integers, of any dtype, in words; None for no known one. Reads the whole array
    only where its beginning has the form."""
    flat = values.reshape(-1)
    if flat.size and np.all(flat == flat[0]):
        return ONE_NUMBER
    if flat.size < 3:
        return None
    if _counts(flat[: 1 << 8]) is not None and (axes := _counts(flat)) is not None:
        if axes == 1:
            counts = flat.size >= FEWEST_ANYWHERE or (flat[0] in (0, 1) and flat[1] > flat[0])
            return "positions" if counts else None
        return "a grid of positions" if flat.size >= _SMALLEST_GRID else None
    if values.ndim > 2 and 2 <= values.shape[-1] <= _MOST_TOGETHER:  # coordinates side by side
        planes = [form_of(np.ascontiguousarray(values[..., place])) for place in range(values.shape[-1])]
        if all(planes):
            return planes[0]
    table = values.reshape([n for n in values.shape if n != 1])
    side = math.isqrt(table.size)
    if table.ndim == 1 and side * side == table.size:
        table = table.reshape(side, side)
    if table.ndim < 2 or not _repeats(table):
        return None
    last = table.reshape(-1, *table.shape[-2:])[0].astype(np.int64)
    if _is_of_distance(last):
        return "distances of positions"
    return "distances in a window" if _is_of_window(last) else None


def _repeats(table: np.ndarray) -> bool:
    """Whether the last two axes are the same at every place of the others."""
    rows = table.reshape(-1, *table.shape[-2:])
    return len(rows) == 1 or bool(np.all(rows == rows[:1]))


def _counts(flat: np.ndarray) -> int | None:
    """The number of axes of the grid that this array counts, each with its own step; None if it is no grid.

    That is the number of levels at which the array is one run of equal steps, repeated by equal steps. A
    prefix of a grid is a grid only if it consists of whole runs, so a short beginning is cut to them.
    """
    x = flat.astype(np.int64)
    whole = x.size <= (1 << 8)
    for axes in range(1, _MOST_AXES):
        steps = np.diff(x)
        uneven = np.flatnonzero(steps != steps[0])
        if not uneven.size:
            return axes
        run = int(uneven[0]) + 1
        if x.size % run:
            if not whole or x.size < 1 << 8:
                return None
            x = x[: x.size // run * run]
        runs = x.reshape(-1, run)
        if not np.array_equal(runs - runs[:, :1], np.broadcast_to(runs[0] - runs[0, 0], runs.shape)):
            return None
        x = runs[:, 0]
        if x.size < 2:
            return axes
    return None


def _is_of_distance(table: np.ndarray) -> bool:
    """Whether the element at (i, j) depends on j - i alone, in the steps of a bucketed distance: monotonic on
    either side of one place, as a distance is, its size, its part up to a bound, or its logarithm."""
    rows, columns = table.shape
    if min(rows, columns) < _SHORTEST_BUCKETED or not np.array_equal(table[1:, 1:], table[:-1, :-1]):
        return False
    along = np.concatenate([table[::-1, 0], table[0, 1:]])  # by j - i, from 1 - rows up
    steps = np.diff(along)
    turns = np.flatnonzero(np.diff(np.sign(steps[steps != 0])))
    jumps = int(np.sum(np.abs(steps) > 1))
    return turns.size <= 3 and jumps <= _MOST_JUMPS and np.unique(along).size >= _FEWEST_DISTANCES


def _is_of_window(table: np.ndarray) -> bool:
    """Distances in two dimensions within a window, as Swin counts them, or BEiT with its class token."""
    rows, columns = table.shape
    if rows != columns:
        return False
    for extra in (0, 1):
        count = rows - extra
        for height in range(2, count + 1):
            width = count // height
            if height * width == count and width > 1 and np.array_equal(table, _window(height, width, extra)):
                return True
    return False


def _window(height: int, width: int, extra: int) -> np.ndarray:
    y, x = np.divmod(np.arange(height * width), width)
    down, across = y[:, None] - y[None] + height - 1, x[:, None] - x[None] + width - 1
    inner = down * (2 * width - 1) + across
    if not extra:
        return np.asarray(inner)
    table = np.empty((height * width + 1,) * 2, np.int64)
    last = (2 * height - 1) * (2 * width - 1)
    table[1:, 1:] = inner
    table[0], table[:, 0], table[0, 0] = last, last + 1, last + 2
    return table
