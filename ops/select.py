"""Choices by an exact sign: max(x, 0), and Max, Min, Clip, Abs and piecewise-linear activations by it.

The sign is read on all bits (compare.py) that values may have, so nothing is wrong near zero and nothing
overflows; Relu itself, far more frequent, reads fewer behind the point (activation.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.clamp import between, between_cost
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost, split
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.ops.beside import cleared, too_far
from onnxpuma.ops.elements import by_element, near_end, of_elements, of_extreme, settled_ends
from onnxpuma.ops.elementwise import add_forms, as_words
from onnxpuma.ops.limits import Limit, inputs_below
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator, resting_fraction
from onnxpuma.ops.spread import over_parts, spread
from onnxpuma.standard.mask_values import FAR

End: TypeAlias = "np.ndarray | float | None"

WIDE = 64  # bits of an exact comparison of any two values
FURTHEST = 2.0**43  # of all values: a public bound beyond it is moved here


def width(call: Call) -> int:
    """Bits of an exact comparison of its operands: all of them, unless all are proved to be small."""
    largest = 0.0
    for operand in call.inputs:
        if operand is not None and operand.secret:
            masked = operand.beside is not None or operand.reach or operand.dtype.kind != "f"
            largest = max(largest, math.inf if masked else operand.bound.size)
        elif operand is not None and operand.value is not None and operand.value.dtype.kind in "fiu":
            largest = max(largest, float(np.abs(bounded(operand.value)).max(initial=0.0)))
    return bits_for(largest, max(o.resting for o in call.secrets))


def compared(call: Call) -> tuple[Limit, ...]:
    """The limits of a comparison of its operands: what is read of them."""
    bits = width(call) if call.inputs else WIDE
    if bits >= WIDE:
        return inputs_below(FURTHEST)(call)
    return inputs_below(2.0 ** (bits - 3 - max(o.resting for o in call.secrets)))(call)


def bits_for(largest: float, fraction: int = FRACTION) -> int:
    """Bits of the difference of two values of which none is larger, with room for the lift and for errors."""
    if largest >= FURTHEST:
        return WIDE
    return min(WIDE, fraction + 2 + math.ceil(math.log2(2.02 * largest + 2.0**-8)))


def positive_part(party: Party, x: Replicated | Sum3, pivot: int, bits: int = WIDE) -> Protocol[Replicated]:
    """max(x, 0), |x| < 2^(bits - 2) units; exact for a Replicated value. Rounds: 6."""
    seen = split(party, x, pivot, x.format.modulo(bits))
    negative = yield from wide_negative(party, seen)
    pair = yield from gate(party, ~negative, seen)
    return (yield from lift(party, pass_on(party, pair), 64))


def positive_part_cost(elements: int, bits: int = WIDE) -> Cost:
    back = pass_on_cost(elements, bits) | lift_cost(elements, bits, 64)
    return wide_negative_cost(elements, bits) + gate_cost(elements, bits) + back


def positive(party: Party, x: Replicated | Sum3, bits: int = WIDE) -> Protocol[Replicated]:
    """max(x, 0) over the three pivots."""
    return (yield from spread(party, x, lambda part, pivot: positive_part(party, part, pivot, bits)))


def positive_cost(elements: int, bits: int = WIDE) -> Cost:
    return over_parts(elements, lambda n: positive_part_cost(n, bits))


def bounded(values: np.ndarray) -> np.ndarray:
    """A public bound inside the range of comparisons: one further out decides nothing."""
    return np.asarray(np.clip(values.astype(np.float64), -FURTHEST, FURTHEST))


def holds_nan(call: Call) -> str | None:
    """Refuse a public input that is not a number somewhere."""
    for operand in call.inputs:
        if operand is not None and operand.value is not None and np.isnan(operand.value).any():
            return f"its public input '{operand.name}' holds NaN"
    return None


def _playing(call: Call) -> list[int]:
    """The operands that may be the largest, or the smallest: not a public one beyond all that is compared."""
    sign = 1.0 if call.node.op == "Max" else -1.0
    found = []
    for place, operand in enumerate(call.inputs):
        values = None if operand is None else operand.value
        if values is None or not values.size or (sign * values.astype(np.float64)).max() > -FURTHEST:
            found.append(place)
    return found


def _extreme_cost(call: Call) -> Cost:
    operands = [call.given(place) for place in _playing(call)]
    total, shape = Cost(), operands[0].shape
    secret, bits = operands[0].secret, width(call)
    for operand in operands[1:]:
        shape = np.broadcast_shapes(shape, operand.shape)
        if secret or operand.secret:
            total = total + positive_cost(int(np.prod(shape, dtype=np.int64)), bits)
        secret = secret or operand.secret
    return total


def _resting(call: Call) -> Result:
    return Result(Replicated, resting_fraction(call.outputs[0].dtype))


def larger(party: Party, a: Value, b: Value, bits: int = WIDE) -> Protocol[Replicated]:
    """max(a, b) = b + max(a - b, 0), with broadcasting; at least one is secret."""
    lead = add_forms(a, b, -1, party)
    assert isinstance(lead, Replicated)
    won = yield from positive(party, lead, bits)
    result = add_forms(won, b, 1, party)
    assert isinstance(result, Replicated)
    return result


def smaller(party: Party, a: Value, b: Value, bits: int = WIDE) -> Protocol[Replicated]:
    """min(a, b) = a - max(a - b, 0)."""
    lead = add_forms(a, b, -1, party)
    assert isinstance(lead, Replicated)
    won = yield from positive(party, lead, bits)
    result = add_forms(a, won, -1, party)
    assert isinstance(result, Replicated)
    return result


@operator(
    "Max", "Min",
    cost=_extreme_cost, result=_resting, refuse=holds_nan, limits=compared, integers=True,
    beside=of_extreme, reaches=True,
)  # fmt: skip
def extreme(party: Party, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
    """The largest or smallest of any number of values."""
    largest = call.node.op == "Max"
    values = tuple(near_end(values[place], call.given(place)) for place in _playing(call))
    result, bits = values[0], width(call)
    if isinstance(result, np.ndarray):
        result = bounded(result)
    for value in values[1:]:
        if isinstance(value, np.ndarray):
            value = bounded(value)
        if isinstance(result, np.ndarray) and isinstance(value, np.ndarray):
            result = np.maximum(result, value) if largest else np.minimum(result, value)
        elif largest:
            result = yield from larger(party, result, value, bits)
        else:
            result = yield from smaller(party, result, value, bits)
    assert isinstance(result, Replicated)
    shape = call.outputs[0].shape
    result = result.map(lambda w: np.broadcast_to(w, shape))
    sure = settled_ends(call)
    return [result if sure is None else cleared(result, sure)]


def _bounds(call: Call) -> tuple[bool, bool]:
    """Whether there is anything to do at the lower and at the upper end."""
    low, high = call.operand(1), call.operand(2)
    lower = low is not None and (low.value is None or float(low.value) > -FURTHEST)
    upper = high is not None and (high.value is None or float(high.value) < FURTHEST)
    return lower, upper


def _clip_cost(call: Call) -> Cost:
    size, (lower, upper), bits = call.given(0).size, _bounds(call), width(call)
    if not call.secret(1) and not call.secret(2):
        low, high = call.public(1) if lower else None, call.public(2) if upper else None
        return clipped_cost(size, low, high, _resting(call).fraction, bits)
    return (positive_cost(size, bits) if lower else Cost()) + (positive_cost(size, bits) if upper else Cost())


def _clip_refusal(call: Call) -> str | None:
    secret_ends = call.secret(1) or call.secret(2)
    return (too_far(call, FAR) if secret_ends else None) or holds_nan(call)


@operator(
    "Clip", cost=_clip_cost, result=_resting, refuse=_clip_refusal, limits=compared,
    integers=True, beside=of_elements, reaches=True,
)  # fmt: skip
@by_element
def clip(
    party: Party, call: Call, x: Value, low: Value = None, high: Value = None
) -> Protocol[Sequence[Form]]:
    """min(max(x, low), high)."""
    x = as_value(party, x)
    (lower, upper), bits = _bounds(call), width(call)
    if not call.secret(1) and not call.secret(2):
        return [(yield from clipped(party, x, low if lower else None, high if upper else None, bits))]  # type: ignore[arg-type]
    if lower:
        x = yield from larger(party, x, bounded(low) if isinstance(low, np.ndarray) else low, bits)
    if upper:
        x = yield from smaller(party, x, bounded(high) if isinstance(high, np.ndarray) else high, bits)
    return [x]


def as_value(party: Party, x: Value) -> Replicated:
    if isinstance(x, Replicated):
        return x
    words = as_words(np.rint(bounded(np.asarray(x)) * 2.0**FRACTION).astype(np.int64))
    nothing = np.zeros_like(words)
    first = words if party.index == 0 else nothing
    second = words if party.index == 2 else nothing
    return Replicated(party.index, first, second, Format(64, FRACTION))


def clipped(
    party: Party,
    x: Replicated,
    low: End,
    high: End,
    bits: int = WIDE,
) -> Protocol[Replicated]:
    """x held between public bounds: `between` two numbers, else x + max(low - x, 0) - max(x - high, 0)."""
    ends = _ends(low, high, x.fraction)
    if ends is not None:
        each: Any = lambda part, pivot: between(party, part, pivot, *ends, bits)  # noqa: E731
        return (yield from spread(party, x, each))
    sides: list[Replicated] = []
    top = None if high is None else bounded(np.asarray(high))
    if low is not None:
        bottom = bounded(np.asarray(low))
        lowest = bottom if top is None else np.asarray(np.minimum(bottom, top))
        side = add_forms(lowest, x, -1, party)
        assert isinstance(side, Replicated)
        sides.append(side)
    if top is not None:
        side = add_forms(x, top, -1, party)
        assert isinstance(side, Replicated)
        sides.append(side)
    if not sides:
        return x
    first = np.concatenate([s.first.reshape(-1) for s in sides])
    second = np.concatenate([s.second.reshape(-1) for s in sides])
    both = yield from positive(party, Replicated(party.index, first, second, Format(64, x.fraction)), bits)
    if low is not None:
        x = x + both.map(lambda w: w[: x.size].reshape(x.shape))
    if top is not None:
        x = x - both.map(lambda w: w[-x.size :].reshape(x.shape))
    return x


def clipped_cost(size: int, low: End, high: End, fraction: int = FRACTION, bits: int = WIDE) -> Cost:
    ends = _ends(low, high, fraction)
    if ends is not None:
        return over_parts(size, lambda n: between_cost(n, *ends, bits, RESTING.bits))
    sides = (low is not None) + (high is not None)
    return positive_cost(sides * size, bits) if sides else Cost()


def _ends(low: End, high: End, fraction: int) -> tuple[int, int] | None:
    """Both ends as words, where both are one number."""
    if low is None or high is None or np.size(low) != 1 or np.size(high) != 1:
        return None
    bottom, top = (round(float(bounded(np.asarray(end)).reshape(())) * 2.0**fraction) for end in (low, high))
    return min(bottom, top), top


def _size_cost(call: Call) -> Cost:
    return positive_cost(call.given(0).size, width(call))


@operator(
    "Abs",
    cost=_size_cost,
    result=_resting,
    limits=compared,
    integers=True,
    beside=of_elements,
)
@by_element
def absolute(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """|x| = 2 max(x, 0) - x."""
    part = yield from positive(party, x, width(call))
    return [part + part - x]
