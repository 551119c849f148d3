"""Comparisons of secret values, and what is done with their secret booleans (words 0 and 1).

Comparisons are exact on the fixed-point words, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Bit, Form, Replicated, Split, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, split
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.wide import wide_zero, wide_zero_cost
from onnxpuma.ops.beside import furthest, held, in_words, of_choice, whole
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.elementwise import add_forms, as_words
from onnxpuma.ops.layout import as_shares
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator, resting_fraction
from onnxpuma.ops.select import FURTHEST, WIDE, bounded, compared, holds_nan, width
from onnxpuma.ops.spread import over_parts, spread

Test = Callable[[Party, Split], Protocol[Bit]]


def bits_of(
    party: Party, x: Replicated | Sum3, test: Test, inverted: bool = False, bits: int = WIDE
) -> Protocol[Replicated]:
    """test(x) at every element as words 0 and 1. Rounds: 5 for a wide test."""

    def one(part: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
        bit = yield from test(party, split(party, part, pivot, part.format.modulo(bits)))
        pair = yield from arithmetic(party, ~bit if inverted else bit, 64)
        replicated = replicate_pair(party, pair)
        yield
        return replicated

    return (yield from spread(party, x, one))


def bits_cost(size: int, test: Callable[[int, int], Cost], bits: int = WIDE) -> Cost:
    return over_parts(size, lambda n: test(n, bits) + arithmetic_cost(n, 64) + replicate_pair_cost(n, 64))


def _boolean(call: Call) -> Result:
    return Result(Replicated, 0)


def _order_cost(call: Call) -> Cost:
    return bits_cost(call.outputs[0].size, wide_negative_cost, width(call))


@operator(
    "Less", "Greater", "LessOrEqual", "GreaterOrEqual",
    cost=_order_cost, result=_boolean, refuse=holds_nan, limits=compared, integers=True,
    beside=of_elements, reaches=True,
)  # fmt: skip
@by_element
def ordered(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """[a < b] and its kin, a secret boolean."""
    swapped = call.node.op in ("Greater", "LessOrEqual")
    a, b = _threshold(a, swapped), _threshold(b, not swapped)
    lead = add_forms(b, a, -1, party) if swapped else add_forms(a, b, -1, party)
    assert isinstance(lead, Replicated)
    inverted = call.node.op.endswith("OrEqual")
    return [(yield from bits_of(party, lead, wide_negative, inverted, width(call)))]


def _unseen(values: np.ndarray) -> np.ndarray:
    """Where a public number lies between zero and half a unit."""
    return (values != 0) & (np.abs(values.astype(np.float64)) < RESTING.unit / 2)


def _threshold(value: Value, up: bool) -> Value:
    """A public number that values are compared with. One that would round to zero goes up, or down, to the
    next unit instead, so that zero lies on its own side of it."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return bounded(value) if isinstance(value, np.ndarray) else value
    moved = np.where((value > 0) == up, RESTING.unit if up else -RESTING.unit, 0.0)
    return bounded(np.where(_unseen(value), moved, value))


def _target(value: Value) -> Value:
    """A public number that values are to equal; no value equals one that would round to zero."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return bounded(value) if isinstance(value, np.ndarray) else value
    return bounded(np.where(_unseen(value), FURTHEST, value))


def _equal_cost(call: Call) -> Cost:
    if all(o is None or o.dtype.kind == "b" for o in call.inputs):
        return Cost()
    return bits_cost(call.outputs[0].size, wide_zero_cost)


def _equal_result(call: Call) -> Result:
    return _pairwise_result(call) if call.given(0).dtype.kind == "b" else Result(Replicated, 0)


@operator(
    "Equal",
    cost=_equal_cost,
    result=_equal_result,
    refuse=holds_nan,
    integers=True,
    beside=of_elements,
)
@by_element
def equal(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """[a = b] of the fixed-point words, a secret boolean."""
    if call.given(0).dtype.kind == "b":
        return [_negated(_joined(party, "Xor", a, b))]
    lead = add_forms(_target(a), _target(b), -1, party)
    assert isinstance(lead, Replicated)
    return [(yield from bits_of(party, lead, wide_zero))]


def _negated(x: Form) -> Form:
    assert isinstance(x, (Replicated, Sum3))
    return (-x).plus(np.ones(x.shape, np.uint64))


@operator("Not", result=_boolean, integers=True)
def negation(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """1 - x: local."""
    yield from ()
    return [_negated(x)]


def _pairwise_result(call: Call) -> Result:
    return Result(Sum3 if call.secret(0) and call.secret(1) else Replicated, 0)


@operator("And", "Or", "Xor", result=_pairwise_result, integers=True)
def connective(party: Party, call: Call, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """Products of the words 0 and 1: a b, a + b - a b, a + b - 2 a b."""
    yield from ()
    return [_joined(party, call.node.op, a, b)]


def _joined(party: Party, name: str, a: Value, b: Value) -> Form:
    if isinstance(a, np.ndarray):
        a, b = b, a
    assert isinstance(a, Replicated)
    both: Replicated | Sum3
    if isinstance(b, np.ndarray):
        both = a.times(b.astype(np.uint64))
    else:
        assert isinstance(b, Replicated)
        both = multiply(party, a, b)
    if name == "And":
        return both
    twice = both if name == "Or" else both.times(np.uint64(2))
    return add_forms(add_forms(a, b, 1, party), twice, -1, party)


def _choice_result(call: Call) -> Result:
    rest = resting_fraction(call.outputs[0].dtype)
    if not call.secret(0):
        return Result(Replicated, rest)
    if call.secret(1) or call.secret(2):
        return Result(Sum3, rest)
    return Result(Replicated, rest)


def _fits(call: Call) -> str | None:
    for place in (1, 2):
        value = call.public(place)
        if value is not None and call.secret(0) and value.dtype.kind == "f" and np.isnan(value).any():
            return f"a secret condition chooses what is no number, in input {place}"
    return None


@operator("Where", result=_choice_result, refuse=_fits, integers=True, beside=of_choice)
def where(party: Party, call: Call, condition: Value, a: Value, b: Value) -> Protocol[Sequence[Form]]:
    """a where the condition holds, b elsewhere: local for a public condition, b + c (a - b) for a secret one.

    What is public may be as far out as minus infinity and the lowest float (beside.py).
    """
    yield from ()
    rest = resting_fraction(call.outputs[0].dtype)
    shape = call.outputs[0].shape
    if isinstance(condition, np.ndarray):
        if isinstance(b, Replicated) and b.shape == shape and b.fraction == rest and not condition.any():
            return [b]  # a guard against what never happens
        left, right = (_shares(party, in_words(v), rest) for v in (a, b))
        first = np.where(condition, left.first, right.first)
        second = np.where(condition, left.second, right.second)
        return [Replicated(party.index, first, second, Format(64, rest))]
    assert isinstance(condition, Replicated)
    a, b = (_far_enough(call, value, place) for place, value in ((1, a), (2, b)))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        step = as_words(np.rint((a.astype(np.float64) - b) * 2.0**rest))
        chosen = condition.times(step, rest)
        return [add_forms(chosen, np.broadcast_to(b, shape), 1, party)]
    lead = add_forms(a, b, -1, party)
    assert isinstance(lead, Replicated)
    return [add_forms(multiply(party, condition, lead), b, 1, party)]


def _far_enough(call: Call, value: Value, place: int) -> Value:
    """What a secret condition chooses, no further out than its readers need it."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return held(value, furthest(call))
    return whole(value, call.operand(place), furthest(call))


def _shares(party: Party, value: Value, fraction: int) -> Replicated:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = np.nan_to_num(value, nan=0.0)
    return as_shares(party, value, fraction=fraction)


def _zero(call: Call) -> Result:
    return Result(Replicated, 0)


def _not_secretly(call: Call) -> str | None:
    return "a secret mask may have made its input infinite" if any(o.hollow for o in call.secrets) else None


@operator("IsInf", result=_zero, refuse=_not_secretly, beside=of_elements)
@by_element
def never(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """False: no fixed-point number is infinite. True where a public infinity stands beside it."""
    yield from ()
    nothing = np.zeros(x.shape, np.uint64)
    return [Replicated(party.index, nothing, nothing, Format(64, 0))]


def _sign_cost(call: Call) -> Cost:
    return bits_cost(2 * call.given(0).size, wide_negative_cost, width(call))


def _sign_result(call: Call) -> Result:
    return Result(Replicated, resting_fraction(call.outputs[0].dtype))


@operator(
    "Sign",
    cost=_sign_cost,
    result=_sign_result,
    limits=compared,
    integers=True,
    beside=of_elements,
)
@by_element
def sign(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """[x > 0] - [x < 0]."""
    both = x.map(lambda w: np.stack([w, w.dtype.type(0) - w]))
    bits = yield from bits_of(party, both, wide_negative, bits=width(call))
    difference = bits.map(lambda w: w[1] - w[0])
    if call.outputs[0].dtype.kind == "f":
        difference = difference.times(np.uint64(1 << FRACTION), FRACTION)
    return [difference]
