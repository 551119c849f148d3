"""Activations: smooth ones by a Fourier window with tails, and ReLU by the sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import is_negative, is_negative_cost, wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.protocols.fourier import Series, all_series
from onnxpuma.mpc.protocols.lifting_gate import gated_up, gated_up_cost
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.smooth import activation, activation_cost, terms_format
from onnxpuma.mpc.protocols.smooth_reading import (
    USUAL,
    Reading,
    fits,
    read_for,
    readable,
    readings,
    readings_to_terms,
    whole_argument,
)
from onnxpuma.ops.activation_terms import terms_cost, to_terms
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.factors import factor_bits, times_numbers
from onnxpuma.ops.limits import Limit, asks, of_input, size_of
from onnxpuma.ops.registry import Call, Operand, Result, Use, operator
from onnxpuma.ops.spread import shift_cost, truncated
from onnxpuma.standard.mask_values import OUT

RAMPS = ("Gelu", "Swish", "Softplus", "Mish")  # zero far to the left, and x far to the right
_SERIES = {"Erf": "erf", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus", "Mish": "mish"}


def _series_name(call: Use) -> str:
    if call.node.op == "Gelu":
        return "gelu_tanh" if call.attribute("approximate") == "tanh" else "gelu"
    if call.node.op == "Swish":
        return "silu"
    return _SERIES[call.node.op]


def _argument(call: Call, factor: float = 1.0) -> float | None:
    """The bound of the arguments times `factor`: calibrated or proved, and larger if a public number beside
    them requires it. None: any argument that their form can hold.
    """
    bound, operand = call.bound("argument", 0.0), call.operand(0)
    if not bound:
        return None
    if operand is not None and operand.beside is not None:
        sizes = np.abs(operand.beside)
        bound = max(bound, 2 * float(np.max(sizes, where=sizes < OUT, initial=0.0)))
    return bound * factor


def held_by(format: Format) -> float:
    """The largest value that words of this format hold."""
    return min(format.at(RESTING.fraction).largest / 2, whole_argument(format))


def _below(format: Format, below: float, factor: float = 1.0) -> Limit:
    """The limit |x| < the range that is read; a range that covers the whole form needs no check."""
    whole = held_by(format) / factor
    if below >= whole and factor == 1.0:
        return Limit("|x|", of_input(), whole, key="argument", stays=size_of())
    below = min(below, whole)
    needs = asks("element", below)
    return Limit("|x|", of_input(), below, key="argument", stays=size_of(), needs=needs)


def _arguments(call: Call, series: Series, factor: float = 1.0) -> tuple[Limit, ...]:
    more = factor_bits(factor) if factor != 1.0 else 0
    format = call.given(0).format.finer(more)
    argument = read_for(_argument(call, factor), format)
    return (_below(format, Reading(series, argument).largest / factor, factor),)


def format_of_terms(call: Call) -> Format | None:
    """The format in which an activation can leave its result as terms (plan/terms.py); None if it cannot."""
    if call.node.op == "Swish" and _alpha(call) != 1.0:
        return None
    ways = readings_to_terms(all_series()[_series_name(call)], _argument(call), call.given(0).format)
    return terms_format(ways[0]) if ways else None


def _smooth_cost(call: Call) -> Cost:
    (x,) = call.secrets
    series, made = all_series()[_series_name(call)], call.outputs[0].resting
    if call.outputs[0].form is Sum3:
        return terms_cost(call.network, series, _argument(call), x.format, x.form, x.size)
    return _activated_cost(call.network, x, series, _argument(call), made)


def _smooth_result(call: Call) -> Result:
    made = call.outputs[0]
    return Result(Sum3, made.format) if made.form is Sum3 else Result()


def _activated_cost(
    network: Network, x: Operand, series: Series, argument: float | None, made: Format
) -> Cost:
    reading = _reading(network, series, argument, x.format, made, x.form, x.size)
    return _read_cost(series, x.format, made, x.form, x.size, reading)


@lru_cache(maxsize=1024)  # the layers of a model ask alike
def _read_cost(series: Series, source: Format, made: Format, form: type, size: int, reading: Reading) -> Cost:
    def each(n: int) -> Cost:
        return activation_cost(series, n, source, made, form, reading=reading)

    return over_parts(size, each)


def _reading(
    network: Network,
    series: Series,
    argument: float | None,
    source: Format,
    made: Format,
    form: type,
    size: int,
) -> Reading:
    """The fastest way to read the arguments on this network."""
    ways = {way.name: way for way in readings(series, argument, form, source, made)}
    costs = {name: _read_cost(series, source, made, form, size, way) for name, way in ways.items()}
    return ways[network.fastest(costs)]


def _smooth_limits(call: Call) -> tuple[Limit, ...]:
    return _arguments(call, all_series()[_series_name(call)])


def _smooth_fits(call: Use, index: int) -> bool:
    return fits(all_series()[_series_name(call)], call.given(index).format)


def _accepts(call: Call, index: int) -> Format | None:
    """A product with the bits that are read of it, for a known argument."""
    series, argument, x = all_series()[_series_name(call)], _argument(call), call.given(index)
    if argument is None or not x.deferred or (call.node.op == "Swish" and _alpha(call) != 1.0):
        return None
    made, source = call.outputs[0].resting, x.format
    least = _reading(call.network, series, argument, source, made, x.form, x.size).bits
    formats = (source.modulo(bits) for bits in range(x.fraction + 2, source.bits))
    fitting = (f for f in formats if whole_argument(f) > argument and readable(series, f) >= least)
    return next(fitting, None)


@operator(
    "Gelu", "Erf", "Tanh", "Sigmoid", "Softplus", "Mish",
    cost=_smooth_cost, result=_smooth_result, defers=_smooth_fits, accepts=_accepts, follows=True,
    limits=_smooth_limits, error="2.5e-3", tolerance=2.5e-3, beside=of_elements, narrow=True,
)  # fmt: skip
@by_element
def smooth(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """A smooth activation. Error: 2.5e-3 at most, a tenth of that on average."""
    series, made = all_series()[_series_name(call)], call.outputs[0]
    if made.form is Sum3:
        return [(yield from to_terms(party, call.network, x, series, _argument(call)))]
    return [(yield from _activated(party, call, x, series, _argument(call), made.resting))]


def _activated(
    party: Party, call: Call, x: Replicated | Sum3, series: Series, argument: float | None, made: Format
) -> Protocol[Replicated]:
    reading = _reading(call.network, series, argument, x.format, made, type(x), x.size)

    def each(part: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
        return activation(party, part, series, pivot, made, argument, reading)

    return (yield from spread(party, x, each))


def _alpha(call: Use) -> float:
    return float(call.attribute("alpha"))


def _swish_limits(call: Call) -> tuple[Limit, ...]:
    return _arguments(call, all_series()["silu"], _alpha(call))


def _swish_cost(call: Call) -> Cost:
    (x,) = call.secrets
    alpha, series, made = _alpha(call), all_series()["silu"], call.outputs[0].resting
    if alpha == 1.0:
        return _smooth_cost(call)
    scaled = replace(x, format=x.format.finer(factor_bits(alpha)))
    back = shift_cost(x.size, factor_bits(1 / alpha), call.ring, Replicated, made.bits)
    return _activated_cost(call.network, scaled, series, _argument(call, alpha), call.reals) + back


def _alpha_positive(call: Call) -> str | None:
    return None if _alpha(call) > 0 else "its alpha is not positive"


def _takes_products(call: Use, index: int) -> bool:
    """Only without alpha: a product times alpha has too few bits above the point."""
    return _alpha(call) == 1.0 and fits(all_series()["silu"], call.at(call.given(index).fraction))


@operator(
    "Swish", cost=_swish_cost, result=_smooth_result, defers=_takes_products, accepts=_accepts,
    follows=True, refuse=_alpha_positive, limits=_swish_limits, error="3e-3", tolerance=3e-3,
    beside=of_elements,
)  # fmt: skip
@by_element
def swish(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """x sigmoid(alpha x) = silu(alpha x) / alpha."""
    alpha, series, made = _alpha(call), all_series()["silu"], call.outputs[0].resting
    if alpha == 1.0:
        return (yield from smooth(party, call, x))
    scaled, argument = times_numbers(x, alpha), _argument(call, alpha)
    y = yield from _activated(party, call, scaled, series, argument, call.reals)
    return [(yield from truncated(party, times_numbers(y, 1 / alpha), made))]


RELU_FRACTION = 14
SIGN_SHIFT = 4  # the sign is read in steps of 2^-10, so it can be wrong for a smaller |x| only
SHORT_SIGN = 20  # up to this many bits are compared in two rounds, more in three
LEAST_RELU = 16


def relu_part(
    party: Party, x: Replicated | Sum3, pivot: int, bits: int, straight: bool = False
) -> Protocol[Replicated]:
    """max(x, 0) for |x| < 2^(bits - 16): the sign, then a gate. Error: 2^-10, else 2^-14.

    Rounds: 5 or 6, `straight` one less; bits: `relu_part_cost`. A negative x whose sign is read as zero
    passes the gate, so what is lifted may lie below zero by a step of the reading.
    """
    seen = split(party, x, pivot, Format(bits, RELU_FRACTION))
    deep = bits - SIGN_SHIFT > SHORT_SIGN
    negative = yield from (wide_negative if deep else is_negative)(party, seen.lowered(SIGN_SHIFT))
    raised = RESTING.fraction - RELU_FRACTION
    least = -(1 << SIGN_SHIFT)
    found = yield from gated_up(party, ~negative, seen, x.bits - raised, straight, least)
    return found.raised(raised)


def relu_part_cost(elements: int, form: type, bits: int, ring: int, straight: bool = False) -> Cost:
    read, sign_bits = split_cost(elements, bits, form), bits - SIGN_SHIFT
    sign = (wide_negative_cost if sign_bits > SHORT_SIGN else is_negative_cost)(elements, sign_bits)
    made = ring - (RESTING.fraction - RELU_FRACTION)
    return (sign | Cost(1, read.bits)) + gated_up_cost(elements, bits, made, straight, form is Replicated)


def _relu_bits(call: Call) -> int:
    """Bits that are read: enough for the largest argument; without a bound, all that its form has."""
    argument = read_for(_argument(call), call.at(call.given(0).fraction))
    return max(LEAST_RELU, math.ceil(math.log2(argument)) + RELU_FRACTION + 2)


def _relu_limits(call: Call) -> tuple[Limit, ...]:
    below = 2.0 ** (_relu_bits(call) - RELU_FRACTION - 2)
    return (_below(call.at(call.given(0).fraction), below),)


def _relu_costs(call: Call, form: type, size: int) -> dict[bool, Cost]:
    bits = _relu_bits(call)

    def cost(straight: bool) -> Cost:
        return over_parts(size, lambda n: relu_part_cost(n, form, bits, call.ring, straight))

    return {straight: cost(straight) for straight in (False, True)}


def _relu_straight(call: Call, form: type, size: int) -> bool:
    """Whether the gate lifts its value, the faster way on a network of long latency."""
    costs = _relu_costs(call, form, size)
    return call.network.fastest({"widened": costs[False], "lifted by the gate": costs[True]}) != "widened"


def _relu_cost(call: Call) -> Cost:
    (x,) = call.secrets
    return _relu_costs(call, x.form, x.size)[_relu_straight(call, x.form, x.size)]


def _relu_fits(call: Use, index: int) -> bool:
    return call.ring - max(call.given(index).fraction - RELU_FRACTION, 0) >= USUAL


@operator(
    "Relu", cost=_relu_cost, defers=_relu_fits, limits=_relu_limits, error="1e-3", tolerance=1e-3,
    beside=of_elements, narrow=True,
)  # fmt: skip
@by_element
def relu(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """max(x, 0)."""
    bits, straight = _relu_bits(call), _relu_straight(call, type(x), x.size)
    return [(yield from spread(party, x, lambda part, pivot: relu_part(party, part, pivot, bits, straight)))]
