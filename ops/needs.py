"""Conditions that keep a product in its range: on the lengths of rows, or the sizes of elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.products import gemm_of, matrix_of, turned
from onnxpuma.ops.reduce import axes_of, count_of
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.rows import Rows
from onnxpuma.ops.sight import last, seen

ROOM = 1 - 2.0**-8  # for rounding


def of_result(call: Call, below: float) -> Sequence[Need]:
    """Conditions on the inputs that keep a product, or a sum of products, below a bound."""
    below *= ROOM
    op = call.node.op
    if op in ("MatMul", "Gemm"):
        return _of_rows(call, below)
    if op == "Conv":
        return _of_image(call, below)
    if op == "Mul":
        return _of_factors(call, below)
    if op in _TIMES:
        return (Need(0, "element", below / _TIMES[op](call)),)
    if call.node.traits.sums:
        return _of_terms(call, below)
    if op in ("ReduceSumSquare", "ReduceL2"):
        axes = tuple(axis - len(call.given(0).shape) for axis in axes_of(call))
        return (Need(0, "row", below if op == "ReduceL2" else math.sqrt(below), axes),)
    if op in ("Div", "Reciprocal"):
        return _of_quotient(call, below)
    if op == "Pow":
        exponent = call.public(1)
        most = 0.0 if exponent is None else float(np.max(exponent, initial=0.0))
        return (Need(0, "element", below ** (1 / most)),) if most >= 1 else ()
    return ()


def _of_quotient(call: Call, below: float) -> Sequence[Need]:
    if call.secret(0) and call.node.op == "Div":
        return (Need(0, "quotient", math.floor(below)),) if call.secret(1) and below > 1 else ()
    over = 1.0 if call.node.op == "Reciprocal" else seen(call.operand(0)).size
    return (Need(len(call.node.inputs) - 1, "nonzero", over / below),)


def _slope(call: Call) -> float:
    return max(1.0, abs(float(call.attribute("alpha"))))


_TIMES: dict[str, Callable[[Call], float]] = {
    "RotaryEmbedding": lambda call: 2.0,
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean", "Neg"), lambda call: 1.0),
    "ReduceSum": count_of,
    "LeakyRelu": _slope,
    "PRelu": lambda call: max(1.0, seen(call.operand(1)).size),
}
"""How many times larger than the elements of its first input the result of each operator may be."""


def _of_terms(call: Call, below: float) -> Sequence[Need]:
    """The known sizes of a sum's terms are subtracted from the bound; the other terms share the rest."""
    places = [place for place, operand in enumerate(call.inputs) if operand is not None]
    sizes = {place: seen(call.operand(place)).size for place in places}
    open_ones = [p for p in places if _asked(call.given(p)) and sizes[p] > below / (2 * len(places))]
    left = below - sum(sizes[p] for p in places if p not in open_ones)
    return [Need(p, "element", left / len(open_ones)) for p in open_ones] if left > 0 else ()


def short_rows(rows: Rows, below: float, scaled: bool = False) -> Callable[[Call], Sequence[Need]]:
    """The condition that rows of a normalisation, less their mean if that is subtracted, are short enough.

    scaled: short enough for every element times its scale to be below the bound.
    """
    kind = "deviation" if rows.centred else "row"

    def needs(call: Call) -> Sequence[Need]:
        most = below * ROOM * 2.0 ** -call.given(0).finer
        if scaled:
            scale = seen(call.operand(1)).size if call.present(1) else 1.0
            most = most / scale if 0 < scale < math.inf else most
        if call.node.op == "GroupNormalization":
            return (Need(0, "element", most / math.sqrt(rows.count)),)
        first = 2 if call.node.op == "InstanceNormalization" else rows.axis
        return (Need(0, kind, most, tuple(range(first - len(call.given(0).shape), 0))),)

    return needs


def _of_rows(call: Call, below: float) -> Sequence[Need]:
    a, b, gemm = call.given(0), call.given(1), gemm_of(call)
    if gemm.left_turned or gemm.alpha != 1.0:
        return ()
    left, right = matrix_of(a), matrix_of(b)
    right = turned(right) if gemm.right_turned else right
    bias = seen(call.operand(2)).size * abs(gemm.beta) if call.present(2) else 0.0
    inner, below = last(a), below - bias
    column = min(right.matrix.get("column", math.inf), right.size * math.sqrt(inner))
    if len(b.shape) == 1:
        column = right.length(inner)
    if not below > 0:
        return ()
    down = (-1,) if gemm.right_turned or len(b.shape) == 1 else (-2,)
    first, second = _parted(below, left.length(inner), column, _asked(a), _asked(b))
    found = [Need(0, "row", first)] if first < math.inf else []
    return [*found, Need(1, "row", second, down)] if second < math.inf else found


def _asked(operand: Operand) -> bool:
    """Whether a value may carry a condition: it is secret, and not a weight that its owner has measured."""
    return operand.secret and not operand.weight


def _parted(below: float, one: float, other: float, first: bool, second: bool) -> tuple[float, float]:
    """The bounds that two factors need for their product to stay below; infinite for one without a condition.

    A public factor or a weight gets none. Of two values, a small one gets none if the other may be larger.
    first, second: whether the factor may carry a condition.
    """
    root = math.sqrt(below)
    if not second or (first and other <= root):
        return (below / other if 0 < other < math.inf else math.inf), math.inf
    if not first or one <= root:
        return math.inf, (below / one if 0 < one < math.inf else math.inf)
    return root, root


def _of_image(call: Call, below: float) -> Sequence[Need]:
    w = seen(call.given(1))
    below -= seen(call.operand(2)).size
    total = min(w.matrix.get("filter sum", math.inf), w.size * math.prod(call.given(1).shape[1:]))
    return (Need(0, "element", below / total),) if 0 < total < math.inf and below > 0 else ()


def _of_factors(call: Call, below: float) -> Sequence[Need]:
    a, b = call.given(0), call.given(1)
    first, second = _parted(below, seen(a).size, seen(b).size, _asked(a), _asked(b))
    found = [Need(0, "element", first)] if first < math.inf else []
    return [*found, Need(1, "element", second)] if second < math.inf else found
