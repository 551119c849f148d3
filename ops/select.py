"""Choices by an exact sign: max(x, 0), and Max, Min, Clip and Abs built on it.

The sign is read on all bits that the operands may have (comparison.py), so the result is exact near zero and
nothing overflows. Relu, which is far more frequent, reads fewer bits below the point (activation.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from onnxpuma.mpc.cost import USUAL, Cost, Network
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, joined
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.clamp import between, between_cost
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import split
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.ops.beside import too_far
from onnxpuma.ops.comparison import FURTHEST, WIDE, bounded, compared, holds_nan, width
from onnxpuma.ops.elements import by_element, near_end, of_elements, of_extreme, settled_ends
from onnxpuma.ops.elementwise import add_forms
from onnxpuma.ops.registry import Call, Resolved, operator
from onnxpuma.ops.shares import as_shares, replicated
from onnxpuma.standard.mask_values import FAR

End: TypeAlias = "np.ndarray | float | None"


def positive_part(
    party: Party, x: Shares, pivot: int, bits: int = WIDE, whole: bool = False
) -> Protocol[Replicated]:
    """max(x, 0), |x| < 2^(bits - 2) units; exact for a Replicated value.

    Rounds: 6; 5 where the gate takes all bits of x (`whole`).
    """
    seen = split(party, x, pivot, x.format if whole else x.format.modulo(bits))
    negative = yield from wide_negative(party, seen.modulo(bits))
    pair = yield from gate(party, ~negative, seen)
    return (yield from lift_pair(party, pair, x.bits, 0))


def positive_part_cost(elements: int, bits: int = WIDE, whole: bool = False) -> Cost:
    gated = WIDE if whole else bits
    back = gate_cost(elements, gated) + lift_pair_cost(elements, gated, WIDE)
    return wide_negative_cost(elements, bits) + back


def positive(party: Party, x: Shares, bits: int = WIDE, network: Network = USUAL) -> Protocol[Replicated]:
    """max(x, 0) over the three pivots."""
    whole = _gates_whole(x.size, bits, network)
    return (yield from spread(party, x, lambda part, pivot: positive_part(party, part, pivot, bits, whole)))


def positive_cost(elements: int, bits: int = WIDE, network: Network = USUAL) -> Cost:
    return _positive_costs(elements, bits)[_gates_whole(elements, bits, network)]


def _positive_costs(elements: int, bits: int) -> dict[bool, Cost]:
    def cost(whole: bool) -> Cost:
        return over_parts(elements, lambda n: positive_part_cost(n, bits, whole))

    return {whole: cost(whole) for whole in ((False, True) if bits < WIDE else (True,))}


def _gates_whole(elements: int, bits: int, network: Network) -> bool:
    """Whether the gate takes all bits of x, and not only those that x needs, which saves a round."""
    costs = _positive_costs(elements, bits)
    if len(costs) == 1:
        return True
    return network.fastest({"gated in few bits": costs[False], "gated whole": costs[True]}) == "gated whole"


def _playing(call: Call) -> list[int]:
    """The operands that may win: all except a public one that lies beyond the compared range."""
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
            total = total + positive_cost(int(np.prod(shape, dtype=np.int64)), bits, call.network)
        secret = secret or operand.secret
    return total


def larger(
    party: Party, a: Resolved, b: Resolved, bits: int = WIDE, network: Network = USUAL
) -> Protocol[Replicated]:
    """max(a, b) = b + max(a - b, 0), with broadcasting; at least one is secret."""
    won = yield from positive(party, add_forms(a, b, -1), bits, network)
    return add_forms(won, b, 1)


def smaller(
    party: Party, a: Resolved, b: Resolved, bits: int = WIDE, network: Network = USUAL
) -> Protocol[Replicated]:
    """min(a, b) = a - max(a - b, 0)."""
    won = yield from positive(party, add_forms(a, b, -1), bits, network)
    return add_forms(a, won, -1)


@operator(
    "Max", "Min",
    cost=_extreme_cost, refuse=holds_nan, limits=compared, integers=True,
    beside=of_extreme, reaches=True,
)  # fmt: skip
def extreme(party: Party, call: Call, *values: Resolved) -> Protocol[Sequence[Form]]:
    """The largest or smallest of any number of values."""
    largest = call.node.op == "Max"
    result, *others = (bounded(near_end(values[place], call.given(place))) for place in _playing(call))
    bits = width(call)
    for value in others:
        if isinstance(result, np.ndarray) and isinstance(value, np.ndarray):
            result = np.maximum(result, value) if largest else np.minimum(result, value)
        elif largest:
            result = yield from larger(party, result, value, bits, call.network)
        else:
            result = yield from smaller(party, result, value, bits, call.network)
    made = replicated(result).broadcast_to(call.outputs[0].shape)
    sure = settled_ends(call)
    return [made if sure is None else made.zeroed(sure)]


def _bounds(call: Call) -> tuple[bool, bool]:
    """Whether the lower and the upper end can change an element."""
    low, high = call.operand(1), call.operand(2)
    lower = low is not None and (low.value is None or float(low.value) > -FURTHEST)
    upper = high is not None and (high.value is None or float(high.value) < FURTHEST)
    return lower, upper


def _clip_cost(call: Call) -> Cost:
    size, (lower, upper), bits = call.given(0).size, _bounds(call), width(call)
    if not call.secret(1) and not call.secret(2):
        low, high = call.public(1) if lower else None, call.public(2) if upper else None
        return clipped_cost(size, low, high, call.outputs[0].resting.fraction, bits, call.network)
    one = positive_cost(size, bits, call.network)
    return (one if lower else Cost()) + (one if upper else Cost())


def _clip_refusal(call: Call) -> str | None:
    secret_ends = call.secret(1) or call.secret(2)
    return (too_far(call, FAR) if secret_ends else None) or holds_nan(call)


@operator(
    "Clip", cost=_clip_cost, refuse=_clip_refusal, limits=compared,
    integers=True, beside=of_elements, reaches=True,
)  # fmt: skip
@by_element
def clip(
    party: Party, call: Call, x: Resolved, low: Resolved | None = None, high: Resolved | None = None
) -> Protocol[Sequence[Form]]:
    """min(max(x, low), high)."""
    held = as_value(party, x, call.outputs[0].resting)
    lower, upper = _bounds(call)
    low, high, bits = low if lower else None, high if upper else None, width(call)
    if not isinstance(low, Replicated) and not isinstance(high, Replicated):
        return [(yield from clipped(party, held, low, high, bits, call.network))]
    if low is not None:
        held = yield from larger(party, held, bounded(low), bits, call.network)
    if high is not None:
        held = yield from smaller(party, held, bounded(high), bits, call.network)
    return [held]


def as_value(party: Party, x: Resolved, format: Format) -> Replicated:
    """A public operand as shares, moved into the range of comparisons."""
    return as_shares(party, bounded(x), format)


def clipped(
    party: Party,
    x: Replicated,
    low: End,
    high: End,
    bits: int = WIDE,
    network: Network = USUAL,
) -> Protocol[Replicated]:
    """x clamped between public bounds: `between` two numbers, else x + max(low - x, 0) - max(x - high, 0)."""
    ends = _ends(low, high, x.fraction)
    if ends is not None:
        whole = _clamps_whole(x.size, ends, bits, network)
        return (
            yield from spread(party, x, lambda part, pivot: between(party, part, pivot, *ends, bits, whole))
        )
    sides: list[Replicated] = []
    top = None if high is None else bounded(np.asarray(high))
    if low is not None:
        bottom = bounded(np.asarray(low))
        sides.append(add_forms(bottom if top is None else np.minimum(bottom, top), x, -1))
    if top is not None:
        sides.append(add_forms(x, top, -1))
    if not sides:
        return x
    both = yield from positive(party, joined([side.flat() for side in sides]), bits, network)
    if low is not None:
        x = x + both[: x.size].reshape(x.shape)
    if top is not None:
        x = x - both[-x.size :].reshape(x.shape)
    return x


def clipped_cost(
    size: int,
    low: End,
    high: End,
    fraction: int = RESTING.fraction,
    bits: int = WIDE,
    network: Network = USUAL,
) -> Cost:
    ends = _ends(low, high, fraction)
    if ends is not None:
        return _clamp_costs(size, ends, bits)[_clamps_whole(size, ends, bits, network)]
    sides = (low is not None) + (high is not None)
    return positive_cost(sides * size, bits, network) if sides else Cost()


def _clamp_costs(size: int, ends: tuple[int, int], bits: int) -> dict[bool, Cost]:
    def cost(whole: bool) -> Cost:
        return over_parts(size, lambda n: between_cost(n, *ends, bits, WIDE, whole))

    return {whole: cost(whole) for whole in (False, True)}


def _clamps_whole(size: int, ends: tuple[int, int], bits: int, network: Network) -> bool:
    """As `_gates_whole`, for a clamp between two numbers."""
    costs = _clamp_costs(size, ends, bits)
    return (
        network.fastest({"clamped in few bits": costs[False], "clamped whole": costs[True]})
        == "clamped whole"
    )


def _ends(low: End, high: End, fraction: int) -> tuple[int, int] | None:
    """Both ends in units of x, if each is one number."""
    if low is None or high is None or np.size(low) != 1 or np.size(high) != 1:
        return None
    bottom, top = (round(float(bounded(np.asarray(end)).reshape(())) * 2.0**fraction) for end in (low, high))
    return min(bottom, top), top


def size_cost(call: Call) -> Cost:
    """Of the signs of all elements of the first input."""
    return positive_cost(call.given(0).size, width(call), call.network)


@operator(
    "Abs",
    cost=size_cost,
    limits=compared,
    integers=True,
    beside=of_elements,
)
@by_element
def absolute(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """|x| = 2 max(x, 0) - x."""
    part = yield from positive(party, x, width(call), call.network)
    return [part + part - x]
