"""Activations: smooth ones by a Fourier window with tails, ReLU and its kin by the sign."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.compare import is_negative, is_negative_cost
from onnxpuma.mpc.convert import pass_on, pass_on_cost, split, split_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.gate import gate, gate_cost
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.separable import Series, all_series
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.smooth import activation, activation_cost, fits, largest_argument, reach_for
from onnxpuma.mpc.truncate import lift, lift_cost, resolve_cost
from onnxpuma.ops.beside import FAR
from onnxpuma.ops.elements import by_element, of_elements
from onnxpuma.ops.elementwise import as_words, public_scale
from onnxpuma.ops.limits import Limit, asks, of_input, size_of
from onnxpuma.ops.registry import Call, operator
from onnxpuma.ops.spread import over_parts, spread, truncated

_SERIES = {"Erf": "erf", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus", "Mish": "mish"}


def _series_name(call: Call) -> str:
    if call.node.op == "Gelu":
        approximate = call.attribute("approximate", "none")
        return "gelu_tanh" if approximate in ("tanh", b"tanh") else "gelu"
    if call.node.op == "Swish":
        return "silu"
    return _SERIES[call.node.op]


def _reach(call: Call, series: Series) -> int:
    """Bits of reading more than usual, or fewer, for the arguments that calibration has found."""
    argument = _argument(call, largest_argument(series, 0))
    return reach_for(series, argument) if argument else 0


def _argument(call: Call, usual: float) -> float:
    """What arguments stay below: as calibrated, more where a public number beside them asks for it, 0 for
    what is usual."""
    bound, operand = call.bound("argument", 0.0), call.operand(0)
    if operand is None or operand.beside is None:
        return bound
    sizes = np.abs(operand.beside)
    wanted = 2 * float(np.max(sizes, where=sizes < FAR, initial=0.0))
    return bound if wanted <= max(bound, usual) else wanted


def _arguments(series: Series, reach: int, factor: float = 1.0) -> tuple[Limit, ...]:
    below = largest_argument(series, reach) / factor
    return (Limit("|x|", of_input(), below, key="argument", stays=size_of(), needs=asks("element", below)),)


def _smooth_cost(call: Call) -> Cost:
    (x,) = call.secrets
    series = all_series()[_series_name(call)]
    reach = _reach(call, series)
    return over_parts(x.size, lambda n: activation_cost(series, n, form=x.form, reach=reach))


def _smooth_limits(call: Call) -> tuple[Limit, ...]:
    series = all_series()[_series_name(call)]
    return _arguments(series, _reach(call, series))


def _smooth_fits(call: Call, index: int) -> bool:
    return fits(call.given(index).fraction, _reach(call, all_series()[_series_name(call)]))


@operator(
    "Gelu", "Erf", "Tanh", "Sigmoid", "Softplus", "Mish",
    cost=_smooth_cost, defers=_smooth_fits, limits=_smooth_limits, error="2.5e-3", tolerance=2.5e-3,
    beside=of_elements,
)  # fmt: skip
@by_element
def smooth(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """A smooth activation. Error: 2.5e-3 at most, a tenth of that on average."""
    series = all_series()[_series_name(call)]
    return [(yield from _activated(party, x, series, _reach(call, series)))]


def _activated(party: Party, x: Replicated | Sum3, series: Series, reach: int) -> Protocol[Replicated]:
    def each(part: Replicated | Sum3, pivot: int) -> Protocol[Replicated]:
        return activation(party, part, series, pivot, reach=reach)

    return (yield from spread(party, x, each))


def _swish_reach(call: Call) -> int:
    series, alpha = all_series()["silu"], float(call.attribute("alpha", 1.0))
    argument = _argument(call, largest_argument(series, 0) / alpha) * alpha
    return reach_for(series, argument) if argument else 0


def _swish_limits(call: Call) -> tuple[Limit, ...]:
    return _arguments(all_series()["silu"], _swish_reach(call), float(call.attribute("alpha", 1.0)))


def _swish_cost(call: Call) -> Cost:
    (x,) = call.secrets
    alpha, reach = call.attribute("alpha", 1.0), _swish_reach(call)
    cost = over_parts(x.size, lambda n: activation_cost(all_series()["silu"], n, form=x.form, reach=reach))
    if alpha != 1.0:
        fraction, _ = public_scale(np.float64(1 / alpha))
        cost = cost + over_parts(x.size, lambda n: resolve_cost(n, fraction, form=Replicated))
    return cost


def _alpha_positive(call: Call) -> str | None:
    return None if call.attribute("alpha", 1.0) > 0 else "its alpha is not positive"


def _takes_products(call: Call, index: int) -> bool:
    """A product times alpha would leave too few bits above the point."""
    return bool(call.attribute("alpha", 1.0) == 1.0) and fits(call.given(index).fraction, _swish_reach(call))


@operator(
    "Swish",
    cost=_swish_cost,
    defers=_takes_products,
    refuse=_alpha_positive,
    limits=_swish_limits,
    error="3e-3",
    tolerance=3e-3,
    beside=of_elements,
)
@by_element
def swish(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """x sigmoid(alpha x) = silu(alpha x) / alpha."""
    alpha = float(call.attribute("alpha", 1.0))
    series, reach = all_series()["silu"], _swish_reach(call)
    if alpha == 1.0:
        return [(yield from _activated(party, x, series, reach))]
    fraction, integer = public_scale(np.float64(alpha))
    y = yield from _activated(party, x.times(as_words(integer), fraction), series, reach)
    fraction, integer = public_scale(np.float64(1 / alpha))
    return [(yield from truncated(party, y.times(as_words(integer), fraction)))]


RELU_BITS = 28
RELU_FRACTION = 14
SIGN_SHIFT = 4  # the sign is read at 2^-10: wrong only where |x| is below that


def relu_part(party: Party, x: Replicated | Sum3, pivot: int, bits: int = RELU_BITS) -> Protocol[Replicated]:
    """max(x, 0) for |x| < 2^(bits - 16): the sign, then a gate. Error: 2^-10, else 2^-14."""
    seen = split(party, x, pivot, RELU_FRACTION, bits)
    negative = yield from is_negative(party, seen.lowered(SIGN_SHIFT))
    pair = yield from gate(party, ~negative, seen)
    raised = 18 - RELU_FRACTION
    return (yield from lift(party, pass_on(party, pair), 64 - raised)).raised(raised)


def relu_part_cost(elements: int, form: type, bits: int = RELU_BITS) -> Cost:
    read = split_cost(elements, bits, form)
    sign = is_negative_cost(elements, bits - SIGN_SHIFT)
    back = pass_on_cost(elements, bits) | lift_cost(elements, bits, 60)
    return (sign | Cost(1, read.bits)) + gate_cost(elements, bits, form is Replicated) + back


def _relu_bits(call: Call) -> int:
    argument = _argument(call, 2.0 ** (RELU_BITS - RELU_FRACTION - 2))
    return max(16, math.ceil(math.log2(argument)) + RELU_FRACTION + 2) if argument else RELU_BITS


def _relu_limits(call: Call) -> tuple[Limit, ...]:
    below = 2.0 ** (_relu_bits(call) - RELU_FRACTION - 2)
    return (Limit("|x|", of_input(), below, key="argument", stays=size_of(), needs=asks("element", below)),)


def _relu_cost(call: Call) -> Cost:
    (x,) = call.secrets
    return over_parts(x.size, lambda n: relu_part_cost(n, x.form, _relu_bits(call)))


def _relu_fits(call: Call, index: int) -> bool:
    return _relu_bits(call) <= 64 - max(call.given(index).fraction - RELU_FRACTION, 0)


@operator(
    "Relu", cost=_relu_cost, defers=_relu_fits, limits=_relu_limits, error="1e-3", tolerance=1e-3,
    beside=of_elements,
)  # fmt: skip
@by_element
def relu(party: Party, call: Call, x: Replicated | Sum3) -> Protocol[Sequence[Form]]:
    """max(x, 0)."""
    bits = _relu_bits(call)
    return [(yield from spread(party, x, lambda part, pivot: relu_part(party, part, pivot, bits)))]
