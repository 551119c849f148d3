"""What keeps a product in its range: how long rows may be, or how large elements; that can be checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.products import matrix_of, turned
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.sight import last, seen

ROOM = 1 - 2.0**-8  # for what is rounded on the way


def of_result(call: Call, below: float) -> Sequence[Need]:
    """What of the inputs keeps the result of a product or a sum of products below a bound."""
    below *= ROOM
    op = call.node.op
    if op in ("MatMul", "Gemm"):
        return _of_rows(call, below)
    if op == "Conv":
        return _of_image(call, below)
    if op == "Mul":
        return _of_factors(call, below)
    if op in ("ReduceL2", "ReduceSumSquare"):
        return _of_length(call, below if op == "ReduceL2" else math.sqrt(below))
    if op == "RotaryEmbedding":
        return (Need(0, "element", below / 2.0),)
    return ()


def _of_length(call: Call, below: float) -> Sequence[Need]:
    from onnxpuma.ops.reduce import axes_of  # which imports limits, that ask here

    extent = len(call.given(0).shape)
    axes = tuple(a - extent for a in axes_of(call))
    return (Need(0, "row", below, axes),) if axes else (Need(0, "element", below),)


def _of_rows(call: Call, below: float) -> Sequence[Need]:
    a, b = call.given(0), call.given(1)
    if call.attribute("transA", 0) or call.attribute("alpha", 1.0) != 1.0:
        return ()
    left, right = matrix_of(a), matrix_of(b)
    right = turned(right) if call.attribute("transB", 0) else right
    bias = seen(call.operand(2)).size * abs(float(call.attribute("beta", 1.0))) if call.present(2) else 0.0
    inner, below = last(a), below - bias
    column = min(right.matrix.get("column", math.inf), right.size * math.sqrt(inner))
    if len(b.shape) == 1:
        column = right.length(inner)
    if not below > 0:
        return ()
    down = (-1,) if call.attribute("transB", 0) or len(b.shape) == 1 else (-2,)
    first, second = _parted(below, left.length(inner), column, _asked(a), _asked(b))
    found = [Need(0, "row", first)] if first < math.inf else []
    return [*found, Need(1, "row", second, down)] if second < math.inf else found


def _asked(operand: Operand) -> bool:
    """Whether a value can be other than its owner knows it to be."""
    return operand.secret and not operand.weight


def _parted(below: float, one: float, other: float, first: bool, second: bool) -> tuple[float, float]:
    """What two factors have to stay below for the sake of their product; infinite of one that need not be
    asked. A public one, or a weight, is what it is; of two values the smaller is, if the other may be larger.

    first, second: whether it can be asked.
    """
    root = math.sqrt(below)
    if not second or (first and other <= root):
        return (below / other if other > 0 else math.inf), math.inf
    if not first or one <= root:
        return math.inf, (below / one if one > 0 else math.inf)
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
