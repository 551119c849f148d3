"""How far out a secret mask may put the elements of a value.

A number that a secret condition chooses to exclude an element is in the words of the value. The plan records
how far below or above ordinary values it may put an element: the reach (`Operand.down`, `up`). Sums, products
with public numbers, choices and layouts carry the reach on; the largest of several drops elements far down.
An operator that reads the value must read that far, or the plan refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from onnxpuma.ops.beside import beside_of, factor, furthest, held
from onnxpuma.ops.limits import EVERYTHING
from onnxpuma.ops.registry import Call, Operand, Operator
from onnxpuma.standard.mask_values import BEYOND_SCALES, DROWNING, FAR, LARGEST, MASK, MASKING, UNREAD


@dataclass(frozen=True)
class Reach:
    """How far elements may lie beyond the ordinary range, and what kind of mask put them there."""

    down: float = 0.0
    up: float = 0.0
    # The mask may stand for an infinity.
    hollow: bool = False
    # Computed from booleans or integers, so that a large factor turns it into a mask.
    unit: bool = False
    # An element may be below zero.
    negative: bool = False
    # The mask includes a number beside which single precision cannot tell scores apart: they drown.
    drowns: bool = False
    # Such a number was added to scores.
    blurred: bool = False


def _of(operand: Operand) -> Reach:
    return Reach(*(getattr(operand, each.name) for each in fields(Reach)))


def _any(found: Sequence[Reach]) -> Reach:
    """The reach of several values together, where no element lies far out."""
    some = {n: any(getattr(r, n) for r in found) for n in ("hollow", "negative", "drowns", "blurred")}
    return Reach(unit=all(r.unit for r in found), **some)


def _flipped(reach: Reach) -> Reach:
    return replace(reach, down=reach.up, up=reach.down, negative=True)


def _widest(call: Call) -> Reach:
    """The reach of operators that move elements of any of their inputs."""
    found = [_of(o) for o in call.secrets]
    return replace(_any(found), down=max(r.down for r in found), up=max(r.up for r in found))


def _sum(call: Call) -> Reach:
    terms, known = [], []
    for place, operand in enumerate(call.inputs):
        away = call.node.op == "Neg" or (call.node.op == "Sub" and place == 1)
        if operand is not None and operand.value is not None:
            known.append(-operand.value.astype(np.float64) if away else operand.value.astype(np.float64))
        elif operand is not None:
            terms.append(_flipped(_of(operand)) if away else _of(operand))
    near = all(np.abs(value).max(initial=0) <= 1 for value in known)
    found = _any(terms)
    negative = any(r.negative for r in terms) or any(value.min(initial=0) < 0 for value in known)
    if call.node.op == "Sub" and known and call.secret(1) and known[0].min(initial=1) >= 1:
        negative = call.given(1).negative  # one minus a zero or a one
    return Reach(
        sum(r.down for r in terms),
        sum(r.up for r in terms),
        found.hollow,
        near and found.unit,
        negative,
        found.drowns,
        found.blurred or (found.drowns and len(terms) > 1),
    )


def _scaled(call: Call) -> Reach:
    place = next((p for p in (0, 1) if not call.secret(p)), None)
    if place is None:
        return Reach()
    values, found = call.public(place), _widest(call)
    assert values is not None
    if call.node.op == "Div":
        values = 1.0 / values.astype(np.float64)
    real = held(factor(call, values))
    least, most = float(real.min(initial=0.0)), float(real.max(initial=0.0))
    for_softmax = call.outputs[0].enough == MASK
    from_here = MASKING if found.unit or for_softmax else BEYOND_SCALES
    far_down, far_up = -least if -least >= from_here else 0.0, most if most >= from_here else 0.0
    if found.negative:
        far_down = far_up = max(far_down, far_up)
    down = max(found.down * most, found.up * -least, far_down)
    up = max(found.up * most, found.down * -least, far_up)
    unit, drowns = found.unit and max(most, -least) <= 1, found.drowns or _drowning(values)
    return replace(found, down=down, up=up, unit=unit, negative=found.negative or least < 0, drowns=drowns)


def _chosen(call: Call) -> Reach:
    found = _widest(call)
    if call.public(0) is not None:
        return found
    down, up, hollow, drowns = found.down, found.up, found.hollow, found.drowns
    for place in (1, 2):
        values = beside_of(call.operand(place))
        if values is not None:
            real = held(values, furthest(call))
            least, most = float(real.min(initial=0.0)), float(real.max(initial=0.0))
            down = max(down, -least if -least >= MASKING else 0.0)
            up = max(up, most if most >= MASKING else 0.0)
            hollow, drowns = hollow or bool(np.isinf(values).any()), drowns or _drowning(values)
    return Reach(down, up, hollow, drowns=drowns, blurred=found.blurred)


def _drowning(values: np.ndarray) -> bool:
    return bool(np.abs(values.astype(np.float64)).max(initial=0.0) >= DROWNING)


def _largest(call: Call) -> Reach:
    """The largest of several or of a row: an element far down is chosen only if all are far down."""
    return Reach(0.0, _widest(call).up)


def _smallest(call: Call) -> Reach:
    return Reach(_widest(call).down, 0.0)


def _extreme(call: Call) -> Reach:
    """Max and Min: at the losing end, as far out as all operands are; a public operand that is too far out to
    be compared does not count.
    """
    secret, found = _widest(call), [_of(o) for o in call.secrets]
    found += [_public(o.value) for o in call.inputs if o is not None and o.value is not None]
    if call.node.op == "Max":
        return replace(secret, down=min(r.down for r in found))
    return replace(secret, up=min(r.up for r in found))


def _public(values: np.ndarray) -> Reach:
    """How far out all of these public numbers lie, in each direction."""
    real = held(values)
    return Reach(_end(-float(real.max(initial=-LARGEST))), _end(float(real.min(initial=LARGEST))))


def _end(far: float) -> float:
    """How far out the other operands may be beside a public number this far out."""
    return far if MASKING <= far < FAR else 0.0 if far < MASKING else np.inf


def _clipped(call: Call) -> Reach:
    """Clip: no further out than its public ends."""
    found, low, high = _of(call.given(0)), call.public(1), call.public(2)
    down = found.down if low is None else min(found.down, _end(-float(held(low))))
    up = found.up if high is None else min(found.up, _end(float(held(high))))
    return replace(found, down=down, up=up)


def _cast(call: Call) -> Reach:
    found = _widest(call)
    return found if call.given(0).dtype.kind == "f" else replace(found, unit=True)


_CARRIES: dict[str, Callable[[Call], Reach]] = {
    **dict.fromkeys(("Add", "Sub", "Sum", "Neg"), _sum),
    **dict.fromkeys(("Mul", "Div"), _scaled),
    **dict.fromkeys(("Concat", "Pad", "ScatterND", "ScatterElements", "Gather"), _widest),
    **dict.fromkeys(("Cast", "CastLike"), _cast),
    "LogSoftmax": _widest,
    **dict.fromkeys(("ReduceMax", "MaxPool", "GlobalMaxPool"), _largest),
    **dict.fromkeys(("Max", "Min"), _extreme),
    "Clip": _clipped,
    "Where": _chosen,
    "ReduceMin": _smallest,
    "TopK": _widest,
}


def reach_of(call: Call, operator: Operator) -> Reach:
    """How far out the outputs of this call may be."""
    carried = _widest if operator.moves else _CARRIES.get(call.node.op)
    return Reach() if carried is None else carried(call)


def unread(call: Call, operator: Operator) -> str | None:
    """Refuse an input that a secret mask puts further out than an operator that knows no masks can read."""
    carries = operator.moves or call.node.op in _CARRIES
    if operator.reaches or carries or not any(o.reach for o in call.secrets):
        return None
    ranges = [limit.below for limit in operator.limits(call) if limit.what in ("|x|", "each |x|", "x")]
    if ranges and min(ranges) >= EVERYTHING:
        return None
    return secretly_far(call, min([*ranges, UNREAD]))


def secretly_far(call: Call, limit: float) -> str | None:
    """Refuse inputs that a secret mask may put as far out as `limit`."""
    for operand in call.secrets:
        if operand.reach >= limit:
            return (
                f"a secret mask puts places of its input '{operand.name}' as far out as {operand.reach:g}, "
                "further than it can read: make the mask public, or choose its filler nearer"
            )
    return None
