"""Bounds of functions of one number: powers, roots, exponentials, logarithms and activations."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols.exponential import MOST
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.registry import Call
from onnxpuma.ops.sight import seen

LN2 = 0.6931471805599453


def inverse_of(x: Bound) -> Bound:
    """The bound of 1 / x: none if x may be zero."""
    if x.low > 0 or x.high < 0:
        return Bound(1.0 / x.high, 1.0 / x.low)
    return UNKNOWN


def root_of(x: Bound) -> Bound:
    return Bound(math.sqrt(max(x.low, 0.0)), math.sqrt(max(x.high, 0.0)))


def exp(call: Call) -> Bound:
    x = seen(call.given(0))
    top = MOST if x.high >= 29 else 2.0 ** math.ceil(x.high / LN2) if x.high > -60 else 2.0**-86
    return Bound(2.0 ** math.floor(x.low / LN2) if x.low > -20 else 0.0, min(top, MOST))


def log_of(x: Bound) -> Bound:
    if not x.low > 0:
        return UNKNOWN
    least, most = math.frexp(x.low)[1] - 1, math.frexp(x.high)[1] if x.high < math.inf else RESTING.bits
    return Bound(least * (0.6931 if least > 0 else 0.6932), most * (0.6932 if most > 0 else 0.6931))


def power(call: Call) -> Bound:
    x, exponent = seen(call.given(0)), call.public(1)
    if exponent is None or not exponent.size:
        return UNKNOWN
    found = [_to_the(x, float(e)) for e in np.unique(exponent.astype(np.float64))]
    return reduce(lambda a, b: a.hull(b), found).only()


def _to_the(x: Bound, exponent: float) -> Bound:
    if exponent == 0.5:
        return root_of(x)
    if exponent < 0:
        inverse = inverse_of(x)
        return _to_the(inverse, -exponent) if inverse.size < math.inf else UNKNOWN
    if exponent != int(exponent) or exponent > 16:
        return Bound(0.0, MOST)
    size = 1.0
    for _ in range(int(exponent)):
        size *= x.size
    return Bound(0.0 if exponent % 2 == 0 else -size, size)


def absolute(x: Bound) -> Bound:
    low = x.low if x.low > 0 else -x.high if x.high < 0 else 0.0
    return Bound(low, x.size, x.norm, x.blocks)


def exponential_unit(call: Call) -> Bound:
    x, selu = seen(call.given(0)), call.node.op == "Selu"
    alpha = float(call.attribute("alpha"))
    gamma = float(call.attribute("gamma")) if selu else 1.0
    depth = gamma * alpha
    return Bound(-abs(depth) if x.low < 0 else 0.0, max(gamma * x.high, -depth, 0.0))


def softplus(call: Call) -> Bound:
    x = seen(call.given(0))
    return Bound(max(x.low, 0.0), max(x.high, 0.0) + LN2 * (1 + 2.0**-40))


def swish(call: Call) -> Bound:
    return seen(call.given(0)).within(-0.2785 / float(call.attribute("alpha")), math.inf)
