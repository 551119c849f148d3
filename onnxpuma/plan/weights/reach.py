"""How much larger a product makes a row, measured on a matrix a block of its rows at a time.

x @ W, for W (k, n), reads groups of columns of W. A matrix is stored by rows, and read once, whichever of
its sides the groups lie along: groups of rows are measured as they pass, groups of columns are added up.

Sums are computed in single precision where that is fast. A sum of K products, in whatever order, is wrong by
at most K u / (1 - K u) times the sum of their sizes, u the unit roundoff, and the results are raised by that
much: they stay bounds.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from onnxpuma.graph.on_one_core import products_of_columns, products_of_rows

TOGETHER = 64  # columns in a block whose joint effect on a row is measured
SHORT = 128  # a matrix with at most this many rows, or columns, is measured as a whole
_TERMS = 512  # of a sum in single precision
_SQUARINGS = 10
_PRECISE = 1e-9  # relative errors below it are those of double precision
_SLACK = 1 + 2.0**-20  # for products that underflow, and sums in double precision
_LEAST, _MOST = 2.0**-30, 2.0**30  # blocks of such numbers neither overflow nor underflow in single precision


@dataclass
class Reach:
    """For W (k, n): the longest column, the largest sum of a column's magnitudes, how much longer W makes a
    row at most, and the same for a block of so many columns; squares of these where named so."""

    column_square: float = 0.0
    sum: float = 0.0
    square: float = 0.0
    block_squares: dict[int, float] = field(default_factory=dict)

    def joined(self, other: Reach) -> Reach:
        """The larger of each, for a stack of matrices."""
        blocks = {w: max(v, self.block_squares.get(w, 0.0)) for w, v in other.block_squares.items()}
        return Reach(
            max(self.column_square, other.column_square),
            max(self.sum, other.sum),
            max(self.square, other.square),
            blocks,
        )


class Rows:
    """Groups of a matrix's rows: the reach of its transpose. Blocks must hold whole groups, `step` rows."""

    def __init__(self, rows: int, columns: int, widths: Collection[int]) -> None:
        self._together = math.gcd(rows, TOGETHER)
        self._widths = widths
        wanted = {self._together, *widths}
        self._grams = [w for w in wanted if not any(v % w == 0 for v in wanted - {w})]
        # Narrower groups lie on the diagonals of the products of wider ones.
        self._holder = {w: next(g for g in self._grams if g % w == 0) for w in wanted}
        self.step = math.lcm(*self._grams)
        self._whole = self._by_block = 0.0
        self._found = Reach(block_squares=dict.fromkeys(widths, 0.0))

    def add(self, block: np.ndarray, magnitudes: np.ndarray) -> None:
        """The next rows, and their magnitudes."""
        self._found.sum = max(self._found.sum, largest_sum(magnitudes))
        for width in self._grams:
            self._note(width, *_by_rows(block, width))

    def _note(self, width: int, grams: np.ndarray, error: float) -> None:
        """Products of groups of this width, each sum in them wrong by `error` at most."""
        found = self._found
        if self._holder[self._together] == width:
            squares = np.einsum("bii->bi", grams)
            found.column_square = max(found.column_square, float(squares.max()) * (1 + error))
            self._whole += float(squares.sum()) * (1 + error)
            self._by_block += _frobenius(_inner(grams, self._together), error)
        for part in self._widths:
            if self._holder[part] == width:
                largest = _largest_square(_inner(grams, part), error)
                found.block_squares[part] = max(found.block_squares[part], largest)

    def reach(self, short: float | None) -> Reach:
        """The reach. short: the exact square of how much longer the matrix makes a row, where it is known."""
        self._found.square = min(self._whole, self._by_block if short is None else short) * _SLACK
        return self._found


class Columns(Rows):
    """Groups of a matrix's columns: its own reach."""

    def __init__(self, rows: int, columns: int, widths: Collection[int]) -> None:
        super().__init__(columns, rows, widths)
        self.step = 1
        self._sums = np.zeros(columns)
        self._totals = {w: np.zeros((columns // w, w, w)) for w in self._grams}
        self._error = 0.0

    def add(self, block: np.ndarray, magnitudes: np.ndarray) -> None:
        """The next rows, and their magnitudes."""
        self._error = max(self._error, _error(block, min(len(block), _TERMS)))
        for start in range(0, len(block), _TERMS):
            part = block[start : start + _TERMS]
            self._sums += magnitudes[start : start + _TERMS].sum(axis=0)
            for width, total in self._totals.items():
                if width == 1:
                    total[:, 0, 0] += np.einsum("ij,ij->j", part, part)
                else:
                    groups = part.reshape(len(part), -1, width).transpose(1, 0, 2)  # (groups, k, width)
                    total += _by_columns(groups)

    def reach(self, short: float | None) -> Reach:
        self._found.sum = float(self._sums.max()) * (1 + self._error) * _SLACK
        for width, total in self._totals.items():
            self._note(width, total, self._error)
        return super().reach(short)


class Short:
    """How much longer a matrix of few rows, or few columns, makes a row: exactly."""

    def __init__(self, rows: int, columns: int) -> None:
        self._by_rows = rows < columns
        self._gram = np.zeros((min(rows, columns),) * 2)
        self._error = 0.0

    def add(self, block: np.ndarray) -> None:
        """All rows at once where they are fewer than the columns."""
        block = block if self._by_rows else block.T
        self._error = max(self._error, _error(block, min(block.shape[1], _TERMS)))
        self._gram += _by_rows(block, len(block))[0][0]

    @property
    def square(self) -> float:
        return _largest_square(self._gram[None], self._error)


def precise(block: np.ndarray, largest: float, small: bool) -> np.ndarray:
    """The block in the precision in which it can be measured: double for a small array, for rows so long that
    errors would count, and for numbers of a strange size."""
    usual = not largest or _LEAST < largest < _MOST
    fits = not small and block.shape[1] <= 1 << 16 and usual
    return block.astype(np.float32 if fits else np.float64, copy=False)


def longest(block: np.ndarray) -> float:
    """The length of the longest row, no less."""
    square = float(np.einsum("ij,ij->i", block, block).max(initial=0.0))
    return math.sqrt(square * (1 + _error(block, block.shape[1])) * _SLACK)


def largest_sum(magnitudes: np.ndarray) -> float:
    """The largest sum of a row, no less."""
    return (
        float(magnitudes.sum(axis=1).max(initial=0.0))
        * (1 + _error(magnitudes, magnitudes.shape[1]))
        * _SLACK
    )


def squares_of_columns(block: np.ndarray) -> np.ndarray:
    """The sum of squares of each column, no less, in double precision."""
    total = np.zeros(block.shape[1])
    for start in range(0, len(block), _TERMS):
        part = block[start : start + _TERMS]
        total += np.einsum("ij,ij->j", part, part)
    return total * ((1 + _error(block, min(len(block), _TERMS))) * _SLACK)


def _error(block: np.ndarray, terms: int) -> float:
    """Relative to the sum of the sizes, the error of a sum of so many products."""
    total = (terms + 1) * float(np.finfo(block.dtype).eps) / 2
    return total / (1 - total)


def _by_rows(block: np.ndarray, width: int) -> tuple[np.ndarray, float]:
    """B B' for each group B of `width` rows, in double precision; and how wrong a sum in it may be."""
    groups = block.reshape(-1, width, block.shape[1])
    total = np.zeros((len(groups), width, width))
    for start in range(0, block.shape[1], _TERMS):
        part = groups[:, :, start : start + _TERMS]
        total += products_of_rows(part) if part.dtype == np.float32 else part @ part.swapaxes(1, 2)
    return total, _error(block, min(block.shape[1], _TERMS))


def _by_columns(groups: np.ndarray) -> np.ndarray:
    if groups.dtype == np.float32:
        return products_of_columns(groups)
    return np.asarray(groups.swapaxes(1, 2) @ groups)


def _inner(grams: np.ndarray, width: int) -> np.ndarray:
    """The products of narrower groups, which lie on the diagonals of those of wider ones."""
    count = grams.shape[-1] // width
    parts = grams.reshape(len(grams), count, width, count, width)
    return np.einsum("bikil->bikl", parts).reshape(-1, width, width)


def _largest_square(grams: np.ndarray, error: float) -> float:
    """The square of how much longer one of these groups makes a row: the largest eigenvalue of its B'B."""
    traces = np.einsum("bii->b", grams)
    largest = np.linalg.eigvalsh(grams)[:, -1] if error < _PRECISE else _spectral(grams)
    return max(float((largest + error * traces).max()), 0.0) * _SLACK


def _spectral(matrices: np.ndarray) -> np.ndarray:
    """The spectral norm of each matrix X, no less, and at most n^(2^-11) times as large (and 0.2 percent).

    |X|^2 = |X X'|, and no more than the Frobenius norm: after ten squarings these differ little. A product in
    single precision is wrong by (n + 3) u |X|_F^2 at most, rounding what is multiplied included.
    """
    wrong = (matrices.shape[-1] + 8) * float(np.finfo(np.float32).eps) / 2 * _SLACK
    norms = [np.maximum(np.sqrt(np.einsum("bij,bij->b", matrices, matrices)), 1e-300)]
    x = (matrices / norms[0][:, None, None]).astype(np.float32)
    for _ in range(_SQUARINGS):
        x = products_of_rows(x)
        wide = x.astype(np.float64)
        norms.append(np.maximum(np.sqrt(np.einsum("bij,bij->b", wide, wide)), 1e-30))
        x /= norms[-1][:, None, None].astype(np.float32)
    found = np.ones(len(matrices))
    for norm in norms[:0:-1]:
        found = np.sqrt(found * norm + wrong) * _SLACK
    return np.asarray(norms[0] * (found + wrong))


def _frobenius(grams: np.ndarray, error: float) -> float:
    """The sum over groups of a number that is no less than the largest eigenvalue of its B'B."""
    traces = np.einsum("bii->b", grams)
    return float((np.sqrt(np.einsum("bij,bij->b", grams, grams)) + error * traces).sum())
