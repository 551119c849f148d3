"""Bounds of products: of rows with matrices, by Cauchy and Schwarz, and of convolutions.

Bounds of a matrix W (k, n) for x @ W, by name:
column       the length of the longest column
sum          the largest sum of magnitudes of a column
spectral     how much longer x @ W may be than x
spectral B   the same for aligned blocks of B columns
row sum      the largest sum of magnitudes of a row; the longest row is the norm
row NAME     the same bound for x @ W'
filter, filter sum   `column` and `sum` of the filters of a convolution
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxpuma.ops.beside import any_factor
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.narrow_factor import as_read
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.sight import Bounding, last, measured, seen

_SIDES = (("column", "row"), ("sum", "row sum"), ("spectral", "row spectral"))
_MOST = 1 << 20  # a public matrix with more elements is not measured


def turned(x: Bound) -> Bound:
    """The bound of the value with its last two axes exchanged."""
    matrix = {}
    for key, value in x.matrix.items():
        if key.startswith("filter"):
            continue
        matrix[key[4:] if key.startswith("row ") else f"row {key}"] = value
    norm = matrix.pop("row column", math.inf)
    if x.norm < math.inf:
        matrix["column"] = x.norm
    return Bound(x.low, x.high, norm, {}, matrix)


def matrix_of(operand: Operand) -> Bound:
    """The bound of a factor of a product; the planner measures a public one."""
    if operand.value is None or operand.value.ndim < 2 or operand.value.size > _MOST:
        return seen(operand)
    values = any_factor(operand.value).astype(np.float64)
    matrix = {"column": measured(values, (-2,)), "sum": measured(values, (-2,), 1)}
    matrix["row sum"] = measured(values, (-1,), 1)
    found = seen(operand)
    return Bound(found.low, found.high, found.norm, {}, matrix)


def product(a: Bound, b: Bound, inner: int, columns: int) -> Bound:
    """The bound of a @ b, whose elements are sums of `inner` products."""
    root = math.sqrt(inner)
    longest = a.length(inner)
    column = min(b.matrix.get("column", math.inf), b.size * root)
    total = min(b.matrix.get("sum", math.inf), b.size * inner, column * root)
    row_total = min(a.matrix.get("row sum", math.inf), a.size * inner, longest * root)
    size = min(longest * column, _times(a.size, total), _times(row_total, b.size))
    spectral = min(b.matrix.get("spectral", math.inf), column * math.sqrt(columns))
    norm = min(_times(longest, spectral), _times(row_total, b.length(columns)))
    blocks = {}
    for key, value in b.matrix.items():
        if key.startswith("spectral "):
            blocks[int(key[9:])] = _times(longest, value)
    for count in b.blocks:
        blocks[count] = min(blocks.get(count, math.inf), _times(row_total, b.length(count)))
    low, high = -size, size
    if a.low >= 0 and b.low >= 0:
        low = 0.0
    return Bound(low, high, norm, blocks)


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _factors(call: Call) -> tuple[Bound, Bound]:
    left, right = (as_read(call, place, matrix_of(call.given(place))) for place in (0, 1))
    return left, right


def _matmul(call: Call) -> Bound:
    a, b = call.given(0), call.given(1)
    left, right = _factors(call)
    if len(b.shape) == 1:
        right = Bound(right.low, right.high, math.inf, {}, {"column": right.length(b.shape[0])})
    columns = b.shape[-1] if len(b.shape) > 1 else 1
    found = product(left, right, last(a), columns)
    return found if len(b.shape) > 1 else found.only()


@dataclass(frozen=True)
class Gemm:
    """alpha A B + beta C, and which of A and B is transposed; a MatMul is the plain one."""

    alpha: float = 1.0
    beta: float = 1.0
    left_turned: bool = False
    right_turned: bool = False


def gemm_of(call: Call) -> Gemm:
    """The attributes of a Gemm, or of a MatMul, which has none."""
    if call.node.op == "MatMul":
        return Gemm()
    alpha, beta, left, right = (call.attribute(n) for n in ("alpha", "beta", "transA", "transB"))
    return Gemm(float(alpha), float(beta), bool(left), bool(right))


def _gemm(call: Call) -> Bound:
    a, c, gemm = call.given(0), call.operand(2), gemm_of(call)
    left, right = _factors(call)
    left = turned(left) if gemm.left_turned else left
    right = turned(right) if gemm.right_turned else right
    inner = a.shape[0] if gemm.left_turned else a.shape[1]
    columns = call.outputs[0].shape[-1]
    found = product(left, right, inner, columns).times(gemm.alpha)
    if c is None:
        return found
    bias = seen(c).rows(c.shape, call.outputs[0].shape).times(gemm.beta)
    return found.plus(bias, columns)


def _conv(call: Call) -> Bound:
    x, w = seen(call.given(0)), seen(call.given(1))
    count = int(np.prod(call.given(1).shape[1:], dtype=np.int64))
    longest = min(w.matrix.get("filter", math.inf), w.size * math.sqrt(count))
    total = min(w.matrix.get("filter sum", math.inf), w.size * count)
    size = min(_times(x.size, total), _times(x.size * math.sqrt(count), longest))
    bias = seen(call.operand(2)).only()
    return Bound(-size, size).plus(bias, 1).only()


def _transposed_conv(call: Call) -> Bound:
    x, w = seen(call.given(0)), seen(call.given(1))
    shape, group = call.given(1).shape, int(call.attribute("group"))
    count = shape[0] // group * int(np.prod(shape[2:], dtype=np.int64))
    size = _times(_times(x.size, w.size), count)
    return Bound(-size, size).plus(seen(call.operand(2)).only(), 1).only()


def _einsum(call: Call) -> Bound:
    equation = call.attribute("equation").replace(" ", "")
    if "..." in equation or "->" not in equation:
        return UNKNOWN
    terms, made = equation.split("->")
    extents: dict[str, int] = {}
    for place, term in enumerate(terms.split(",")):
        extents.update(zip(term, call.given(place).shape, strict=False))
    count = math.prod(n for label, n in extents.items() if label not in made)
    size = float(count)
    for place in range(len(call.inputs)):
        size = _times(size, seen(call.given(place)).size)
    return Bound(-size, size)


PRODUCTS: dict[str, Bounding] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _transposed_conv,
    "Einsum": _einsum,
}
