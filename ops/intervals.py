"""Bounds of the results of operators on single elements, choices and reductions.

Each function takes a call, whose operands carry their bounds, and returns the bound of its first output. It
uses sums, products, quotients and square roots only, which every machine rounds alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from onnxpuma.ops.beside import factor, furthest, held
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.function_bounds import (
    absolute,
    exp,
    exponential_unit,
    inverse_of,
    log_of,
    power,
    root_of,
    softplus,
    swish,
)
from onnxpuma.ops.moves import with_zeros
from onnxpuma.ops.reduce import count_of
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.row_sums import added, mean, multiplied, running, squared
from onnxpuma.ops.sight import Bounding, last, of_values, seen, words

TRUTH = Bound(0.0, 1.0)


def _rows(call: Call, place: int) -> Bound:
    operand = call.given(place)
    return words(operand).rows(operand.shape, call.outputs[0].shape)


def _sum(call: Call) -> Bound:
    terms = [_rows(call, place) for place in range(len(call.inputs))]
    if call.node.op == "Sub":
        terms[1] = terms[1].times(-1.0)
    return reduce(lambda a, b: a.plus(b, last(call.outputs[0])), terms)


def _mul(call: Call) -> Bound:
    a, b = call.given(0), call.given(1)
    if a.secret and b.secret:
        found = seen(a).rows(a.shape, call.outputs[0].shape)
        other = seen(b).rows(b.shape, call.outputs[0].shape)
        both = found.by(other, last(call.outputs[0]))
        return Bound(max(both.low, 0.0), both.high, both.norm, both.blocks) if a.name == b.name else both
    secret, public = (a, b) if a.secret else (b, a)
    return _scaled(call, secret, of_values(factor(call, np.asarray(public.value))))


def _scaled(call: Call, secret: Operand, by: Bound) -> Bound:
    if by.low == by.high:
        return words(secret).times(by.low)
    return words(secret).rows(secret.shape, call.outputs[0].shape).by(by, last(call.outputs[0]))


def _div(call: Call) -> Bound:
    a, b = call.given(0), call.given(1)
    if not b.secret:
        inverse = factor(call, 1.0 / np.asarray(b.value, np.float64))
        return _scaled(call, a, of_values(inverse))
    return seen(a).only().by(inverse_of(seen(b)), 1).only()


def _log_sum(call: Call) -> Bound:
    x, count = seen(call.given(0)), max(1, call.given(0).size // max(call.outputs[0].size, 1))
    return Bound(x.low, x.high + 0.6932 * count.bit_length())


def _log_share(call: Call) -> Bound:
    """LogSoftmax: at most zero, and at least the smallest score less the logarithm of the largest sum."""
    x, operand = seen(call.given(0)), call.given(0)
    count = operand.shape[call.axis] if operand.shape else 1
    return Bound(x.low - x.high - 0.6932 * count.bit_length(), 0.0)


def _extreme(call: Call) -> Bound:
    """Max, Min."""
    pick = max if call.node.op == "Max" else min
    found = [seen(call.given(place)) for place in range(len(call.inputs))]
    return Bound(pick(b.low for b in found), pick(b.high for b in found))


def _choice(call: Call) -> Bound:
    """Where: a number that a secret condition chooses lies as far out as its readers need."""
    found = []
    for place in (1, 2):
        operand = call.given(place)
        if operand.value is not None and call.secret(0):
            bound = of_values(
                held(operand.value, furthest(call)) if operand.dtype.kind == "f" else operand.value
            )
        else:
            bound = seen(operand) if call.secret(0) else words(operand)
        found.append(bound.rows(operand.shape, call.outputs[0].shape))
    return found[0].hull(found[1])


def _clip(call: Call) -> Bound:
    x = seen(call.given(0))
    low = seen(call.operand(1)).low if call.present(1) else -math.inf
    high = seen(call.operand(2)).high if call.present(2) else math.inf
    return Bound(min(max(x.low, low), high), max(min(x.high, high), min(low, high)))


def _cast(call: Call) -> Bound:
    if call.outputs[0].dtype.kind == "b":
        return TRUTH
    return words(call.given(0)) if call.given(0).dtype.kind == "f" else seen(call.given(0))


def _leaky(call: Call) -> Bound:
    slope = float(call.attribute("alpha"))
    return _sloped(call, Bound(slope, slope))


def _sloped(call: Call, slope: Bound) -> Bound:
    x = seen(call.given(0))
    below = Bound(min(x.low, 0.0), 0.0).by(slope, 1)
    low = min(below.low, max(x.low, 0.0) if x.low > 0 else 0.0)
    return Bound(low, max(below.high, x.high, 0.0))


def _chosen(call: Call) -> Bound:
    """Elements of the first input."""
    return seen(call.given(0)).only()


def _place(call: Call) -> Bound:
    return Bound(0.0, float(max(call.given(0).shape, default=1)))


def _near(call: Call) -> Bound:
    x = seen(call.given(0))
    return Bound(x.low - 1.0, x.high + 1.0)


def _put(call: Call) -> Bound:
    """Elements of the first input, some replaced by elements of the third."""
    if call.attribute("reduction") != "none":
        return UNKNOWN
    return words(call.given(0)).only().hull(words(call.operand(2)).only())


def _resized(call: Call) -> Bound:
    x = with_zeros(call)
    return x.times(2.0) if call.attribute("mode") == "cubic" else x


def _always(low: float, high: float) -> Bounding:
    return lambda call: Bound(low, high)


def _between(call: Call) -> Bound:
    """The interval of the result by the standard's definition, whatever the inputs are."""
    known = call.node.traits.between
    return UNKNOWN if known is None else Bound(*known)


def _inside(low: float, high: float) -> Bounding:
    """A function between two numbers, with f(0) = 0 and |f(x)| <= |x|."""
    return lambda call: seen(call.given(0)).within(low, high)


def _of(make: Callable[[Bound], Bound]) -> Bounding:
    return lambda call: make(seen(call.given(0)))


def _turned_sign(call: Call) -> Bound:
    return words(call.given(0)).times(-1.0)


INTERVALS: dict[str, Bounding] = {
    **dict.fromkeys(("Add", "Sub", "Sum"), _sum),
    **dict.fromkeys(("Max", "Min"), _extreme),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"), _always(0.0, 1.0)),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "IsInf"), _always(0.0, 1.0)),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Sin", "Cos", "Erf"), _between),
    "Sign": _always(-1.0, 1.0),
    **dict.fromkeys(("Cast", "CastLike"), _cast),
    **dict.fromkeys(("Floor", "Ceil", "Round"), _near),
    **dict.fromkeys(("Elu", "Selu", "Celu"), exponential_unit),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool", "MaxPool", "TopK"), _chosen),
    **dict.fromkeys(("GlobalAveragePool", "AveragePool"), with_zeros),
    **dict.fromkeys(("ScatterND", "ScatterElements"), _put),
    **dict.fromkeys(("ArgMax", "ArgMin"), _place),
    "Neg": _turned_sign,
    "Mul": _mul,
    "Div": _div,
    "Reciprocal": _of(inverse_of),
    "Sqrt": _of(root_of),
    "Exp": exp,
    "Log": _of(log_of),
    "Pow": power,
    "ReduceLogSumExp": _log_sum,
    "LogSoftmax": _log_share,
    "Where": _choice,
    "Clip": _clip,
    "Abs": _of(absolute),
    "Relu": _inside(0.0, math.inf),
    "Gelu": _inside(-0.1701, math.inf),
    "Mish": _inside(-0.3089, math.inf),
    "HardSwish": _inside(-0.3751, math.inf),
    "Swish": swish,
    "Tanh": _inside(-1.0, 1.0),
    "Softplus": softplus,
    "LeakyRelu": _leaky,
    "PRelu": lambda call: _sloped(call, seen(call.given(1))),
    "ReduceSum": added,
    "ReduceMean": mean,
    "ReduceSumSquare": squared,
    "ReduceL2": lambda call: root_of(squared(call)),
    "ReduceL1": lambda call: Bound(0.0, seen(call.given(0)).size * count_of(call)),
    "ReduceProd": multiplied,
    "ReduceLogSum": lambda call: log_of(added(call)),
    "CumSum": running,
    "Resize": _resized,
}
