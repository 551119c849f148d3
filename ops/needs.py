"""What keeps a product in its range: how long rows may be, or how large elements; that can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from onnxpuma.ops.attention_positions import shapes_of
from onnxpuma.ops.bounds import Bound, Need
from onnxpuma.ops.lengths import head_length
from onnxpuma.ops.products import matrix_of, turned
from onnxpuma.ops.registry import Call
from onnxpuma.ops.rows import Rows
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
    if op == "RotaryEmbedding":
        return (Need(0, "element", below / 2.0),)
    return ()


def short_heads(call: Call, below: float) -> Sequence[Need]:
    """What of queries and keys, past ones included, keeps |scale q k'| of an attention below a bound."""
    scale, s = call.attribute("scale", None), shapes_of(call)
    below *= ROOM / (abs(float(scale)) if scale is not None else s.size**-0.5)
    lengths = [head_length(call, 0), head_length(call, 1)]
    asked = [place for place in (0, 1) if not lengths[place] < math.inf]
    if not asked:  # both are known, and still too long
        asked = [0, 1]
    known = math.prod(lengths[place] for place in (0, 1) if place not in asked)
    each = (below / known) ** (1 / len(asked)) if known > 0 else math.inf
    places = [*asked, *([4] if 1 in asked and call.secret(4) else [])]
    counts = {p: s.size if len(call.given(p).shape) == 3 else 0 for p in places}
    return [Need(p, "row", each, (-1,), counts[p]) for p in places if call.secret(p)]


def short_rows(rows: Rows, below: float) -> Callable[[Call], Sequence[Need]]:
    """That the rows of a normalisation are short enough, without their mean where that is taken off."""
    kind = "deviation" if rows.centred else "row"

    def needs(call: Call) -> Sequence[Need]:
        if call.node.op not in ("LayerNormalization", "RMSNormalization"):
            return (Need(0, "element", below * 2.0 ** -call.given(0).finer / math.sqrt(rows.count)),)
        axes = tuple(range(rows.axis - len(rows.shape), 0))
        return (Need(0, kind, below * 2.0 ** -call.given(0).finer, axes),)

    return needs


def small_rows(below: float) -> Callable[[Call], Sequence[Need]]:
    """That x, scaled, is small enough in a normalisation."""

    def needs(call: Call) -> Sequence[Need]:
        scale = seen(call.operand(1)).size * 2.0 ** (call.given(0).finer + 1)
        return (Need(0, "element", below / scale),) if 0 < scale < math.inf else ()

    return needs


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
    longest = left.length(inner)
    if not below > 0:
        return ()
    down = (-1,) if call.attribute("transB", 0) or len(b.shape) == 1 else (-2,)
    if a.secret and column < math.inf:
        return (Need(0, "row", below / column),) if column > 0 else ()
    if b.secret and longest < math.inf:
        return (Need(1, "row", below / longest, down),) if longest > 0 else ()
    if not (a.secret and b.secret):
        return ()
    return Need(0, "row", math.sqrt(below)), Need(1, "row", math.sqrt(below), down)


def _of_image(call: Call, below: float) -> Sequence[Need]:
    w = seen(call.given(1))
    below -= seen(call.operand(2)).size
    total = min(w.matrix.get("filter sum", math.inf), w.size * math.prod(call.given(1).shape[1:]))
    return (Need(0, "element", below / total),) if 0 < total < math.inf and below > 0 else ()


def _of_factors(call: Call, below: float) -> Sequence[Need]:
    sizes: list[Bound] = [seen(call.given(place)) for place in (0, 1)]
    for place in (0, 1):
        other = sizes[1 - place].size
        if call.secret(place) and other < math.inf:
            return (Need(place, "element", below / other),) if other > 0 else ()
    if not (call.secret(0) and call.secret(1)):
        return ()
    return Need(0, "element", math.sqrt(below)), Need(1, "element", math.sqrt(below))
