"""One pass over an array, for all its readers: the quantities that its facts are rounded from.

A product reads the array's columns in groups; or its rows, where the array is turned before, or W' is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpuma.graph.by_rows import BLOCK, Rows, rows_and_columns
from onnxpuma.graph.on_one_core import to_single
from onnxpuma.plan.weights import reach
from onnxpuma.plan.weights.reach import Reach, Short, longest, precise
from onnxpuma.standard.fixed_point import UNIT

_ROUNDING = UNIT / 2 * (1 + 2.0**-10)  # error of each number of a factor when it is encoded, and of its sums
_BLOCK = 4 * BLOCK  # elements: fewer and longer calls
_SMALL = 1 << 16  # elements of an array that is measured in double precision


@dataclass(frozen=True)
class View:
    """How a graph reads a stored array."""

    name: str
    # A matrix of which rows and columns are exchanged.
    turned: bool
    # What its readers do with it (plan/weights/uses.py).
    roles: Collection[str]
    # Number of elements in a row -> the sizes that heads in it may have.
    widths: Callable[[int], list[int]]


def measured(read: Rows, shape: tuple[int, ...], views: Sequence[View]) -> dict[str, dict[str, float]]:
    """The quantities that each reader asks for, by its name. An array with a number that is none has only its
    size, which is not finite."""
    once = _Pass(shape, views)
    once.over(read)
    return {view.name: dict(once.quantities(view)) for view in views}


class _Pass:
    def __init__(self, shape: tuple[int, ...], views: Sequence[View]) -> None:
        self._shape, (self._rows, self._columns) = shape, rows_and_columns(shape)
        self._size, self._least = 0.0, math.inf
        self._lengths: dict[int, float] = {}  # of rows of so many elements
        self._turned_lengths: dict[int, float] = {}  # of columns
        self._squares = np.zeros(self._columns)  # of columns
        self._filter = self._filter_sum = 0.0
        across: list[set[int]] = []  # the sizes of heads in rows that products with the array make
        down: list[set[int]] = []  # with its transpose
        for view in views if shape else ():
            heads = set(view.widths(shape[0 if view.turned else -1])) if "numbers" in view.roles else set()
            lengths = self._turned_lengths if view.turned else self._lengths
            lengths.update(dict.fromkeys([shape[0 if view.turned else -1], *heads], 0.0))
            for role, axis in (("columns", -1), ("rows", -2)):
                if role in view.roles and len(shape) > 1:
                    along = -3 - axis if view.turned else axis
                    (across if along == -1 else down).append(set(view.widths(shape[along])))
        self._filters = len(shape) > 1 and any("filters" in view.roles for view in views)
        self._across = set().union(*across) if across else None
        self._down = set().union(*down) if down else None
        self._reach: tuple[Reach | None, Reach | None] = None, None  # of the array, of its transpose

    def over(self, read: Rows) -> None:
        """Read all rows, a matrix of a stack at a time where products are measured."""
        factor = self._across is not None or self._down is not None
        count = self._shape[-2] if factor else self._rows
        for first in range(0, self._rows, max(count, 1)):
            if not self._over_matrix(read, first, count, factor):
                return

    def _over_matrix(self, read: Rows, first: int, count: int, factor: bool) -> bool:
        columns = self._columns
        across = None if self._across is None else reach.Columns(count, columns, self._across)
        down = None if self._down is None else reach.Rows(count, columns, self._down)
        short = Short(count, columns) if factor and min(count, columns) <= reach.SHORT else None
        gauges = [gauge for gauge in (across, down) if gauge is not None]
        whole = math.lcm(
            *(gauge.step for gauge in gauges),
            *(size for size in self._turned_lengths if size != self._rows),
            math.prod(self._shape[1:-1]) if self._filters else 1,
            count if short is not None and count < columns else 1,
        )
        step = max(1, _BLOCK // (columns * whole)) * whole
        for start in range(first, first + count, step):
            values = read(start, min(start + step, first + count))
            values = values if values.dtype == np.float64 else to_single(values)
            high, low = float(values.max()), float(values.min())
            largest = max(high, -low)
            self._size, self._least = max(largest, self._size), min(low, self._least)
            if not math.isfinite(largest):
                self._size = largest
                return False
            block = precise(values, largest, math.prod(self._shape) <= _SMALL)
            magnitudes = np.abs(block) if gauges or self._filters else block
            for gauge in gauges:
                gauge.add(block, magnitudes)
            if short is not None:
                short.add(block)
            self._add_lengths(block, magnitudes)
        exact = None if short is None else short.square
        made = (None if gauge is None else gauge.reach(exact) for gauge in (across, down))
        self._reach = tuple(  # type: ignore[assignment]
            new if old is None or new is None else new.joined(old)
            for old, new in zip(self._reach, made, strict=True)
        )
        return True

    def _add_lengths(self, block: np.ndarray, magnitudes: np.ndarray) -> None:
        for count, before in self._lengths.items():
            self._lengths[count] = max(before, longest(block.reshape(-1, count)))
        if self._filters:
            whole = (-1, math.prod(self._shape[1:]))
            self._filter = max(self._filter, longest(block.reshape(whole)))
            self._filter_sum = max(self._filter_sum, reach.largest_sum(magnitudes.reshape(whole)))
        for count, before in self._turned_lengths.items():
            if count == self._rows:
                self._squares += reach.squares_of_columns(block)
            else:
                groups = block.reshape(-1, count, self._columns)
                largest = max(float(reach.squares_of_columns(group).max()) for group in groups)
                self._turned_lengths[count] = max(before, math.sqrt(largest))

    def quantities(self, view: View) -> Iterator[tuple[str, float]]:
        """What this reader asks for, unrounded, in the order in which facts are stated."""
        yield "size", self._size
        if not math.isfinite(self._size):  # `share` refuses the model
            return
        if self._least > 0:
            yield "least", self._least
        shape = self._shape[::-1] if view.turned else self._shape
        if not shape:
            return
        lengths = self._turned_lengths if view.turned else self._lengths
        if view.turned:
            lengths[self._rows] = math.sqrt(float(self._squares.max()))
        yield "row", lengths[shape[-1]]
        for count in view.widths(shape[-1]) if "numbers" in view.roles else ():
            yield f"row {count}", lengths[count]
        if len(shape) < 2:
            return
        if "filters" in view.roles:
            yield "filter", self._filter
            yield "filter sum", self._filter_sum
        straight, transposed = self._reach[::-1] if view.turned else self._reach
        if "columns" in view.roles and straight is not None:
            yield from _stated(straight, shape[-2], shape[-1], view.widths(shape[-1]))
        if "rows" in view.roles and transposed is not None:
            for key, value in _stated(transposed, shape[-1], shape[-2], view.widths(shape[-2])):
                if key != "column":
                    yield f"row {key}", value


def _stated(found: Reach, inner: int, number: int, widths: Collection[int]) -> Iterator[tuple[str, float]]:
    """The quantities of a factor (inner, number), whose numbers are encoded with an error each."""
    yield "column", math.sqrt(found.column_square) + math.sqrt(inner) * _ROUNDING
    yield "sum", found.sum + inner * _ROUNDING
    yield "spectral", math.sqrt(found.square) + math.sqrt(inner * number) * _ROUNDING
    for width in widths:
        yield (
            f"spectral {width}",
            math.sqrt(found.block_squares[width]) + math.sqrt(inner * width) * _ROUNDING,
        )
