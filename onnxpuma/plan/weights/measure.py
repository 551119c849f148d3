"""Measuring the facts of a graph's secret weights on the arrays themselves.

Products are measured in double precision, a block of columns at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

import numpy as np

from onnxpuma.graph.model import Graph
from onnxpuma.plan.weights.facts import Facts, stated
from onnxpuma.plan.weights.uses import Uses
from onnxpuma.standard.fixed_point import UNIT

_CHUNK = 1 << 20  # elements converted to double precision at a time
_SMALL = 128  # a matrix with at most this many rows, or columns, is measured as a whole
_TOGETHER = 64  # columns in a block whose joint effect on a row is measured
_ROUNDING = UNIT / 2 * (1 + 2.0**-10)  # error of each number of a factor when it is encoded, and of its sums
_FEW = 16  # elements; the facts of a smaller array are coarser, as they say more about each number


def facts_of(graph: Graph, secret: Collection[str], public_inputs: Collection[str]) -> Facts:
    """Facts of every secret real weight, and of every value computed from weights alone.

    Reads one array at a time. Cost: 100 operations for each element of a factor.
    """
    uses = Uses(graph, secret, public_inputs)
    found: Facts = {}
    for name, roles in uses.roles.items():
        values = uses.value(name)
        if values is None or values.dtype.kind not in "fV" or not values.size:
            continue
        with np.errstate(all="ignore"):
            measured = {key: v for key, v in _measured(values, roles, uses.widths(name)) if math.isfinite(v)}
        if "size" in measured:
            coarse = 4 if values.size < _FEW else 1
            found[name] = {key: stated(key, value, coarse) for key, value in measured.items()}
        del values
        if name in graph.initializers:
            graph.initializers[name].release()
    return found


def _measured(
    values: np.ndarray, roles: Collection[str], widths: Callable[[int], list[int]]
) -> Iterator[tuple[str, float]]:
    """The quantities that the readers of an array ask for, unrounded."""
    size = float(np.abs(values).max())
    if not math.isfinite(size):  # `share` refuses the model
        return
    yield "size", size
    if float(values.min()) > 0:
        yield "least", float(values.min())
    if not values.ndim:
        return
    yield "row", _longest(values.reshape(-1, values.shape[-1]))
    for count in widths(values.shape[-1]) if "numbers" in roles else ():
        yield f"row {count}", _longest(values.reshape(-1, count))
    if values.ndim < 2:
        return
    if "filters" in roles:
        rows = values.reshape(values.shape[0], -1)
        yield "filter", _longest(rows)
        yield "filter sum", _largest_sum(rows)
    if "columns" in roles:
        yield from _factor(values, widths(values.shape[-1]))
    if "rows" in roles:
        for key, value in _factor(values.swapaxes(-1, -2), widths(values.shape[-2])):
            if key != "column":
                yield f"row {key}", value


def _factor(values: np.ndarray, widths: Collection[int]) -> Iterator[tuple[str, float]]:
    """How much larger x @ W may be than x, for W (..., k, n): each element, whole rows, each head."""
    stack, together = values.reshape(-1, *values.shape[-2:]), math.gcd(values.shape[-1], _TOGETHER)
    columns, sums, squares = 0.0, 0.0, 0.0
    blocks = dict.fromkeys(widths, 0.0)
    for matrix in stack:
        whole, by_block = 0.0, 0.0
        for part in _columns(matrix, math.lcm(together, *widths)):
            squared = np.einsum("ij,ij->j", part, part)
            columns = max(columns, float(squared.max()))
            sums = max(sums, float(np.abs(part).sum(axis=0).max()))
            whole += float(squared.sum())
            for width in widths:
                largest = np.linalg.eigvalsh(_grams(part, width))[:, -1]
                blocks[width] = max(blocks[width], float(largest.max()))
            grams = _grams(part, together)
            by_block += float(np.sqrt(np.einsum("bij,bij->b", grams, grams)).sum())
        if min(matrix.shape) <= _SMALL:
            short = (matrix if matrix.shape[1] <= matrix.shape[0] else matrix.T).astype(np.float64)
            by_block = float(np.linalg.eigvalsh(short.T @ short)[-1])
        squares = max(squares, min(whole, by_block))
    inner, number = values.shape[-2:]
    yield "column", math.sqrt(columns) + math.sqrt(inner) * _ROUNDING
    yield "sum", sums + inner * _ROUNDING
    yield "spectral", math.sqrt(squares) + math.sqrt(inner * number) * _ROUNDING
    for width, largest_square in blocks.items():
        yield f"spectral {width}", math.sqrt(max(largest_square, 0.0)) + math.sqrt(inner * width) * _ROUNDING


def _columns(matrix: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Groups of columns in double precision, each of whole blocks of `width`, except perhaps the last."""
    step = max(1, _CHUNK // max(matrix.shape[0] * width, 1)) * width
    for start in range(0, matrix.shape[1], step):
        yield matrix[:, start : start + step].astype(np.float64)


def _grams(part: np.ndarray, width: int) -> np.ndarray:
    """B'B of each block B of `width` columns, or B B' where that is smaller: they have the same largest
    eigenvalue, the square of how much longer B makes a row. Their Frobenius norm is no less."""
    blocks = part.reshape(part.shape[0], -1, width).transpose(1, 0, 2)  # (blocks, k, width)
    turned = blocks.swapaxes(1, 2)
    return np.asarray(blocks @ turned if part.shape[0] < width else turned @ blocks)


def _longest(rows: np.ndarray) -> float:
    return _over(rows, lambda part: math.sqrt(float(np.einsum("ij,ij->i", part, part).max())))


def _largest_sum(rows: np.ndarray) -> float:
    return _over(rows, lambda part: float(np.abs(part).sum(axis=1).max()))


def _over(rows: np.ndarray, measure: Callable[[np.ndarray], float]) -> float:
    step, most = max(1, _CHUNK // max(rows.shape[1], 1)), 0.0
    for start in range(0, len(rows), step):
        most = max(most, measure(rows[start : start + step].astype(np.float64)))
    return most * (1 + 1e-9)
