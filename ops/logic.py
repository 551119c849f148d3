"""Comparisons of secret values, and operators on the secret booleans that they yield (words 0 and 1).

Comparisons are exact on the fixed-point words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Bit, Form, Replicated, Shares, Split, Sum3, chosen, stacked, zeros
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost, split
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.wide import wide_zero, wide_zero_cost
from onnxpuma.ops.beside import furthest, held, in_words, of_choice, whole
from onnxpuma.ops.comparison import FURTHEST, WIDE, bounded, compared, holds_nan, width
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.elementwise import add_forms
from onnxpuma.ops.registry import Call, Resolved, Result, operator
from onnxpuma.ops.shares import as_shares, replicated

F = TypeVar("F", bound=Form)
Test = Callable[[Party, Split], Protocol[Bit]]


def bits_of(
    party: Party, x: Shares, test: Test, inverted: bool = False, bits: int = WIDE
) -> Protocol[Replicated]:
    """test(x) at every element as words 0 and 1. Rounds: 5 for a wide test."""

    def one(part: Shares, pivot: int) -> Protocol[Replicated]:
        bit = yield from test(party, split(party, part, pivot, part.format.modulo(bits)))
        pair = yield from arithmetic(party, ~bit if inverted else bit, x.bits)
        replicated = replicate_pair(party, pair)
        yield
        return replicated

    return (yield from spread(party, x, one))


def bits_cost(size: int, test: Callable[[int, int], Cost], bits: int = WIDE) -> Cost:
    return over_parts(size, lambda n: test(n, bits) + arithmetic_cost(n, WIDE) + replicate_pair_cost(n, WIDE))


def _boolean(call: Call) -> Result:
    return Result(Replicated, call.at(0))


def _order_cost(call: Call) -> Cost:
    return bits_cost(call.outputs[0].size, wide_negative_cost, width(call))


@operator(
    "Less", "Greater", "LessOrEqual", "GreaterOrEqual",
    cost=_order_cost, result=_boolean, refuse=holds_nan, limits=compared, integers=True,
    beside=of_elements, reaches=True,
)  # fmt: skip
@by_element
def ordered(party: Party, call: Call, a: Resolved, b: Resolved) -> Protocol[Sequence[Form]]:
    """A comparison such as [a < b]: a secret boolean."""
    swapped = call.node.op in ("Greater", "LessOrEqual")
    a, b = _threshold(a, swapped), _threshold(b, not swapped)
    lead = add_forms(b, a, -1) if swapped else add_forms(a, b, -1)
    inverted = call.node.op.endswith("OrEqual")
    return [(yield from bits_of(party, lead, wide_negative, inverted, width(call)))]


def _unseen(values: np.ndarray) -> np.ndarray:
    """Where public numbers are smaller than half a unit, but not zero."""
    return (values != 0) & (np.abs(values.astype(np.float64)) < RESTING.unit / 2)


def _threshold(value: Resolved, up: bool) -> Resolved:
    """A public number in a comparison. A number that would round to zero moves up, or down, to the next unit,
    so that zero stays on the right side of it.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return bounded(value)
    moved = np.where((value > 0) == up, RESTING.unit if up else -RESTING.unit, 0.0)
    return bounded(np.where(_unseen(value), moved, value))


def _target(value: Resolved) -> Resolved:
    """A public number that is compared for equality; no value equals one that would round to zero."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return bounded(value)
    return bounded(np.where(_unseen(value), FURTHEST, value))


def _equal_cost(call: Call) -> Cost:
    if all(o is None or o.dtype.kind == "b" for o in call.inputs):
        return Cost()
    return bits_cost(call.outputs[0].size, wide_zero_cost)


def _equal_result(call: Call) -> Result:
    return _pairwise_result(call) if call.given(0).dtype.kind == "b" else Result(Replicated, call.at(0))


@operator(
    "Equal",
    cost=_equal_cost,
    result=_equal_result,
    refuse=holds_nan,
    integers=True,
    beside=of_elements,
)
@by_element
def equal(party: Party, call: Call, a: Resolved, b: Resolved) -> Protocol[Sequence[Form]]:
    """[a = b] of the fixed-point words, a secret boolean."""
    if call.given(0).dtype.kind == "b":
        return [_negated(_joined(party, "Xor", a, b))]
    return [(yield from bits_of(party, add_forms(_target(a), _target(b), -1), wide_zero))]


def _negated(x: F) -> F:
    return (-x).plus_numbers(1.0)


@operator("Not", result=_boolean, integers=True)
def negation(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """1 - x: local."""
    yield from ()
    return [_negated(x)]


def _pairwise_result(call: Call) -> Result:
    return Result(Sum3 if call.secret(0) and call.secret(1) else Replicated, call.at(0))


@operator("And", "Or", "Xor", result=_pairwise_result, integers=True)
def connective(party: Party, call: Call, a: Resolved, b: Resolved) -> Protocol[Sequence[Form]]:
    """Products of the words 0 and 1: a b, a + b - a b, a + b - 2 a b."""
    yield from ()
    return [_joined(party, call.node.op, a, b)]


def _joined(party: Party, name: str, a: Resolved, b: Resolved) -> Shares:
    if isinstance(a, np.ndarray):
        a, b = b, a
    one = replicated(a)
    both = one.times_integers(b) if isinstance(b, np.ndarray) else multiply(party, one, b)
    if name == "And":
        return both
    return add_forms(add_forms(a, b, 1), both if name == "Or" else both.times_integers(2), -1)


def _choice_result(call: Call) -> Result:
    return Result(Sum3 if call.secret(0) and (call.secret(1) or call.secret(2)) else Replicated)


def _fits(call: Call) -> str | None:
    for place in (1, 2):
        value = call.public(place)
        if value is None or not call.secret(0) or value.dtype.kind != "f":
            continue
        if np.isnan(value).any():
            return f"a secret condition may choose a NaN from input {place}"
        above = np.unique(value[value > 0])
        if np.unique(held(above, furthest(call))).size < above.size:
            return (
                f"a secret condition may choose numbers from input {place} that lie too far out to be told "
                f"apart, as {above[-2]:g} and {above[-1]:g}: make the condition public, or choose nearer ones"
            )
    return None


@operator("Where", result=_choice_result, refuse=_fits, integers=True, beside=of_choice)
def where(
    party: Party, call: Call, condition: Resolved, a: Resolved, b: Resolved
) -> Protocol[Sequence[Form]]:
    """a where the condition holds, b elsewhere: local for a public condition, b + c (a - b) for a secret one.

    Public operands may be as far out as minus infinity and the lowest float (beside.py).
    """
    yield from ()
    rest, shape = call.outputs[0].resting, call.outputs[0].shape
    if isinstance(condition, np.ndarray):
        if isinstance(b, Replicated) and b.shape == shape and b.fraction == rest and not condition.any():
            return [b]  # the model guards against a case that never occurs
        return [chosen(condition, *(_shares(party, in_words(v), rest) for v in (a, b)))]
    a, b = (_far_enough(call, value, place) for place, value in ((1, a), (2, b)))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        step = condition.times_integers(np.rint((a.astype(np.float64) - b) / rest.unit), rest.fraction)
        return [add_forms(step, np.broadcast_to(b, shape), 1)]
    return [add_forms(multiply(party, condition, add_forms(a, b, -1)), b, 1)]


def _far_enough(call: Call, value: Resolved, place: int) -> Resolved:
    """An operand that a secret condition chooses, no further out than its readers need."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return held(value, furthest(call))
    return whole(value, call.operand(place), furthest(call))


def _shares(party: Party, value: Resolved, format: Format) -> Replicated:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = np.nan_to_num(value, nan=0.0)
    return as_shares(party, value, format)


def _zero(call: Call) -> Result:
    return Result(Replicated, call.at(0))


def _not_secretly(call: Call) -> str | None:
    return "a secret mask may have made its input infinite" if any(o.hollow for o in call.secrets) else None


@operator("IsInf", result=_zero, refuse=_not_secretly, beside=of_elements)
@by_element
def never(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """False, as no fixed-point number is infinite; True where a public infinity stands beside it."""
    yield from ()
    return [zeros(party.index, x.shape, call.at(0))]


def _sign_cost(call: Call) -> Cost:
    return bits_cost(2 * call.given(0).size, wide_negative_cost, width(call))


@operator(
    "Sign",
    cost=_sign_cost,
    limits=compared,
    integers=True,
    beside=of_elements,
)
@by_element
def sign(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """[x > 0] - [x < 0]."""
    bits = yield from bits_of(party, stacked([x, -x]), wide_negative, bits=width(call))
    return [(bits[1] - bits[0]).aligned(call.outputs[0].resting.fraction)]
