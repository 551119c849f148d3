"""From which parts of the operands a part of a step's result follows, at concrete shapes.

Values of several requests lie end to end along an axis. A step computes them at once where its result is then
the requests' results end to end: where no place of the result along that axis depends on another place. The
kinds of `Traits.rows` say so for most operators, layouts.py for the others. graph/rowwise.py answers a
similar question about graphs, whose sizes are not known.
"""

from __future__ import annotations

import math

from onnxpuma.graph.sampling import DOMAIN, SAMPLE
from onnxpuma.ops.registry import Call
from onnxpuma.plan.together.ends import Ends, Filling, Given, Rule, aligned, present, shape
from onnxpuma.plan.together.layouts import LAYOUTS
from onnxpuma.standard.operators import traits


def ends(call: Call, axis: int, given: Given) -> Ends | None:
    """How the inputs must lie so that the outputs of several requests lie end to end along `axis`.

    call: that of one request. None where a place along `axis` depends on others, or may.
    """
    node, found = call.node, None
    rank = len(call.outputs[0].shape)
    if any(len(o.shape) != rank for o in call.outputs):
        return None
    if node.domain:
        found = _draw(call, axis, given) if (node.domain, node.op) == (DOMAIN, SAMPLE) else None
    elif node.op in LAYOUTS:
        found = LAYOUTS[node.op](call, axis, given)
    else:
        kind = traits(node.op).rows
        found = None if kind is None else _KINDS[kind](call, axis, given)
    return found


def _one(call: Call, axis: int, given: Given) -> Ends | None:
    return Ends({0: axis})


def _stretched(call: Call, axis: int, given: Given) -> Ends | None:
    slots = [slot for slot, _ in present(call)]
    return aligned(call, axis, given, slots, call.outputs[0].shape)


def _product(call: Call, axis: int, given: Given) -> Ends | None:
    left, right, out = len(shape(call, 0)), len(shape(call, 1)), call.outputs[0].shape
    if left < 2 or right < 2 or axis == len(out) - 1:
        return None
    if axis == len(out) - 2:
        return Ends({0: left - 2})
    return aligned(call, axis, given, (0, 1), out)


def _gemm(call: Call, axis: int, given: Given) -> Ends | None:
    if axis != 0:
        return None
    found = {0: 1 if call.attribute("transA") else 0}
    added = shape(call, 2) if call.present(2) else ()
    if len(added) == 2 and not (added[0] == 1 and given.same[2]):
        if added[0] != call.outputs[0].shape[0]:
            return None
        found[2] = 0
    return Ends(found)


def _normalisation(call: Call, axis: int, given: Given) -> Ends | None:
    rank = len(shape(call, 0))
    first = int(call.attribute("axis")) % rank
    reach = max((len(o.shape) for slot, o in present(call) if slot), default=0)
    return Ends({0: axis}) if axis < first and reach <= rank - first else None


def _along(call: Call, axis: int, given: Given) -> Ends | None:
    return None if call.axis == axis or call.node.version < 13 else Ends({0: axis})


def _transpose(call: Call, axis: int, given: Given) -> Ends | None:
    rank = len(shape(call, 0))
    order = call.attribute("perm") or range(rank)[::-1]
    return Ends({0: int(order[axis])})


def _concat(call: Call, axis: int, given: Given) -> Ends | None:
    return None if call.axis == axis else Ends({slot: axis for slot, _ in present(call)})


def _attention(call: Call, axis: int, given: Given) -> Ends | None:
    """Requests are batch entries. A mask of four axes has one for each entry, or one for all.

    Where each entry has a public mask, requests may have different numbers of keys: the mask leaves out the
    places that fill up the shorter ones, and an attention computes no score that its mask leaves out. The
    queries of one entry are independent too, where they read the same keys.
    """
    if axis == 2:
        return _queries(call, given)
    if axis != 0:
        return None
    found = {slot: 0 for slot in (0, 1, 2, 4, 5, 6) if call.present(slot)}
    if call.present(3):
        mask = shape(call, 3)
        if len(mask) == 4 and not (mask[0] == 1 and given.same[3]):
            if mask[0] != call.outputs[0].shape[0]:
                return None
            found[3] = 0
    return Ends(found, fillings=_fillings(call) if 3 in found else {})


def _queries(call: Call, given: Given) -> Ends | None:
    """None where the place of a query among the others decides which keys it reads."""
    windows = max(call.attribute("left_window_size"), call.attribute("right_window_size")) >= 0
    placed = windows or call.attribute("is_causal") or any(map(call.present, (4, 5, 6)))
    if placed or len(call.outputs) > 1 or len(shape(call, 0)) != 4 or not (given.same[1] and given.same[2]):
        return None
    found = {0: 2}
    if call.present(3):
        mask = shape(call, 3)
        if mask[-2:-1] == shape(call, 0)[2:3]:
            found[3] = len(mask) - 2
        elif mask[-2:-1] not in ((), (1,)) or not given.same[3]:
            return None
    return Ends(found)


def _fillings(call: Call) -> dict[int, Filling]:
    more = call.attribute("is_causal") or len(call.outputs) > 1 or any(map(call.present, (4, 5, 6)))
    q, k, mask = call.given(0), call.given(1), call.given(3)
    if more or mask.value is None or len(q.shape) != 4 or mask.shape[3] != k.shape[2]:
        return {}
    out = float("-inf") if mask.dtype.kind == "f" else 0.0
    return {1: Filling(2), 2: Filling(2), 3: Filling(3, out)}


def _draw(call: Call, axis: int, given: Given) -> Ends | None:
    """Each row is drawn from for itself. Where parameters differ each request has one row, and its own."""
    if given.same[1]:
        return Ends({0: axis})
    alone = math.prod(shape(call, 0)[:-1]) == 1
    return Ends({0: axis, 1: 0}) if alone else None


def _rotary(call: Call, axis: int, given: Given) -> Ends | None:
    """Requests are batch entries, each with positions of its own, or with tables of its own or for all."""
    if axis != 0:
        return None
    found, entries = {0: 0}, shape(call, 0)[0]
    for slot in (3,) if call.present(3) else (1, 2):
        own = shape(call, slot)[0]
        if slot != 3 and own == 1 and given.same[slot]:
            continue
        if own != entries:
            return None
        found[slot] = 0
    return Ends(found)


_KINDS: dict[str, Rule] = {
    "each": _one,
    "broadcast": _stretched,
    "product": _product,
    "gemm": _gemm,
    "normalisation": _normalisation,
    "along": _along,
    "transpose": _transpose,
    "concat": _concat,
    "attention": _attention,
    "rotary": _rotary,
}
