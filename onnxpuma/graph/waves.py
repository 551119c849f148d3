"""Tables of sines and cosines of positions, distinguished from weights by their closed form.

A table is known when every number in it is, to the rounding of its kind of float, the sine or cosine of a
position times a frequency, the frequencies being a known series (`frequencies`). A table changed by training,
however little, is off by more somewhere; one within the rounding everywhere contains nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxpuma.graph.frequencies import BFLOAT16, FLOAT16, FLOAT32, floor_of, rounding, series

_LOOKED_AT = 6  # rows compared before the whole table


def spacing_of(values: np.ndarray) -> float:
    """Relative rounding error of the coarsest kind of float that represents these exactly."""
    values = np.asarray(values, np.float32)
    bits = np.ascontiguousarray(values).view(np.uint32)
    if not np.any(bits & 0xFFFF):
        return BFLOAT16
    with np.errstate(over="ignore"):
        return FLOAT16 if np.array_equal(values.astype(np.float16).astype(np.float32), values) else FLOAT32


def is_wave_table(values: np.ndarray) -> bool:
    """Whether an array is such a table: positions along its first axis (axes of one do not count).

    Columns may be in any of the usual orders: all sines, then all cosines; alternating; only one of the two,
    each once or the whole twice. Positions count from 0; a row of zeros may serve for padding. Or the
    positions are those of a grid, half of the columns for each coordinate. At least three rows, 17 numbers.
    """
    table = values.reshape([n for n in values.shape if n != 1] or [1])
    if table.ndim != 2 or table.shape[0] < 3 or table.size <= 16:
        return False
    if float(np.max(np.abs(table[:_LOOKED_AT]))) > 1.001:
        return False
    table = table.astype(np.float64)
    return _counts(table) or _counts_on_grid(table)


def _counts(table: np.ndarray) -> bool:
    positions = np.arange(table.shape[0], dtype=np.float64)
    padding = [row for row in range(1, min(4, len(table))) if not np.any(table[row])]
    kept = np.delete(np.arange(len(table)), padding[:1])
    return _is_table(table[kept], positions[kept])


def _counts_on_grid(table: np.ndarray) -> bool:
    """A grid, as masked autoencoders and vision Transformers have it; a first row of zeros is the class
    token's."""
    if table.shape[1] % 4:
        return False
    table = table[1:] if not np.any(table[0]) else table
    rows, half = len(table), table.shape[1] // 2
    for width in (w for w in range(2, rows // 2 + 1) if rows % w == 0):
        down, across = np.divmod(np.arange(rows, dtype=np.float64), width)
        for first, second in ((down, across), (across, down)):
            if _is_table(table[:, :half], first) and _is_table(table[:, half:], second):
                return True
    return False


def _is_table(table: np.ndarray, positions: np.ndarray) -> bool:
    """Whether columns are sines and cosines of a known series times these positions, the first of them 0."""
    start = table[0]
    if positions[0] != 0 or not np.all((start == 0) | (start == 1)):
        return False
    early = int(np.argmax(positions > 0))
    cosine = start == 1
    spacing = spacing_of(table)
    for index in _orders(cosine):
        count = int(index.max()) + 1
        for known in series(count, *_measured(table[early], positions[early], cosine, index)):
            frequencies = known[index]
            for rows in (slice(0, _LOOKED_AT), slice(0, len(table))):
                if not _agrees(table[rows], positions[rows], frequencies, cosine, spacing):
                    break
            else:
                return True
    return False


def _orders(cosine: np.ndarray) -> Iterator[np.ndarray]:
    """For each possible order of the columns: the frequency of each."""
    columns = cosine.size
    if columns < 2:
        return
    half = columns // 2
    if columns % 2 == 0:
        if np.array_equal(cosine[:half], ~cosine[half:]) and len(set(cosine[:half].tolist())) == 1:
            yield np.tile(np.arange(half), 2)
            return
        if np.array_equal(cosine[::2], ~cosine[1::2]) and len(set(cosine[::2].tolist())) == 1:
            yield np.repeat(np.arange(half), 2)
            return
    if len(set(cosine.tolist())) == 1:
        yield np.arange(columns)
        if columns % 2 == 0 and columns > 2:
            yield np.tile(np.arange(half), 2)
            yield np.repeat(np.arange(half), 2)


def _measured(row: np.ndarray, position: float, cosine: np.ndarray, index: np.ndarray) -> tuple[float, float]:
    """The first two frequencies, measured in the row of the first position after 0."""
    found = []
    for number in (0, 1):
        columns = np.flatnonzero(index == number)
        sines, cosines = columns[~cosine[columns]], columns[cosine[columns]]
        if sines.size and cosines.size:
            angle = np.arctan2(row[sines[0]], row[cosines[0]])
        elif columns.size:
            value = np.clip(row[columns[0]], -1, 1)
            angle = np.arcsin(value) if sines.size else np.arccos(value)
        else:
            return 0.0, 0.0
        found.append(float(angle) / position)
    return found[0], found[1]


def _agrees(
    table: np.ndarray, positions: np.ndarray, frequencies: np.ndarray, cosine: np.ndarray, spacing: float
) -> bool:
    """Whether they agree, to the rounding of the angle, as float32 computes it, and of the result."""
    angles = positions[:, None] * frequencies
    sines, cosines = np.sin(angles), np.cos(angles)
    expected, slope = np.where(cosine, cosines, sines), np.where(cosine, sines, cosines)
    angle_error = angles * (rounding(frequencies) + 2 * FLOAT32)
    allowed = (np.abs(slope) + angle_error) * angle_error + np.abs(expected) * (spacing + 2 * FLOAT32)
    return bool(np.all(np.abs(table - expected) <= allowed + floor_of(spacing)))
