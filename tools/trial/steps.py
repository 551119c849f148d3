"""Steps of a random graph that are one operator, or two: a function from the current value to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from trial.sketch import Sketch, Unfit

Step: TypeAlias = Callable[[Sketch, str], str]
STEPS: dict[str, Step] = {}


def step(name: str) -> Callable[[Step], Step]:
    """Register a step under this name."""

    def register(function: Step) -> Step:
        STEPS[name] = function
        return function

    return register


def axes(s: Sketch, *values: int) -> str:
    return s.constant(np.array(values, np.int64), "axes")


def rank_at_least(s: Sketch, x: str, rank: int) -> None:
    if len(s.shape(x)) < rank:
        raise Unfit("rank")


def small(s: Sketch) -> float:
    """A constant as in real models: 1e-12 to 1e9, mostly positive."""
    kind = s.whole(0, 3)
    if kind == 0:
        return s.among((0.5, 1.0, 2.0, 0.125, 3.0, 1e-3, 10.0, 255.0))
    value = s.magnitude(1e-12, 1e9) if kind == 1 else s.magnitude(1e-4, 1e4)
    return float(f"{value:.2g}") * (-1 if s.chance(20) else 1)


def scalar(s: Sketch, value: float, hidden: bool | None = None) -> str:
    """One number: public, or a weight."""
    hidden = s.chance(25) if hidden is None else hidden
    array = np.asarray(value, np.float32)
    return s.constant(array.reshape(1)) if hidden else s.public(array)


def partner(s: Sketch, x: str) -> str:
    """A second operand: a number, a weight, an input, or an earlier value."""
    shape = s.shape(x)
    kind = s.whole(0, 4)
    if kind == 0:
        return scalar(s, small(s))
    if kind == 1:
        fitting = [
            n
            for n, v in s.values.items()
            if v.dtype.kind == "f" and s.fits(n) and n != x and v.shape in (shape, shape[-1:])
        ]
        if fitting:
            return s.among(fitting)
    part = s.among((shape, shape[-1:], (*shape[:-1], 1)))
    scale = s.magnitude(1e-5, 1e6) if s.chance(50) else np.abs(s.values[x]).max(initial=1e-3)
    array = s.reals(part, min(float(scale), 1e6))
    if kind == 2:
        return s.given(array)
    return s.public(array) if kind == 3 and s.chance(40) else s.constant(array)


# -- one element ------------------------------------------------------------------------------------

_PLAIN = (
    "Abs Neg Relu HardSwish Sigmoid Tanh Erf Gelu Mish Softplus Softsign Sin Cos Floor Ceil Round Sign Exp"
)
for _op in _PLAIN.split():
    STEPS[_op] = lambda s, x, op=_op: s.add(op, x)  # type: ignore[misc]


@step("slopes")
def slopes(s: Sketch, x: str) -> str:
    op = s.among(("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "HardSigmoid", "Selu"))
    alpha = s.among((0.01, 0.1, 0.2, 1.0, 1.5))
    return str(s.add(op, x) if op == "Selu" else s.add(op, x, alpha=alpha))


@step("PRelu")
def prelu(s: Sketch, x: str) -> str:
    return str(s.add("PRelu", x, s.constant(s.reals(s.shape(x)[-1:], 1.0))))


def positive(s: Sketch, x: str) -> str:
    """Make the value positive, as graphs do."""
    if s.values[x].min() > 0:
        return x
    how = s.whole(0, 3)
    floor = scalar(s, s.magnitude(1e-12, 10.0), hidden=False)
    if how == 0:
        return str(s.add("Max", x, floor))
    if how == 1:
        return str(s.add("Clip", x, floor))
    x = s.add("Abs", x) if how == 2 else s.add("Mul", x, x)
    return str(s.add("Add", x, floor))


@step("Log")
def log(s: Sketch, x: str) -> str:
    return str(s.add("Log", positive(s, x)))


@step("Sqrt")
def root(s: Sketch, x: str) -> str:
    return str(s.add("Sqrt", positive(s, x)))


@step("Reciprocal")
def reciprocal(s: Sketch, x: str) -> str:
    return str(s.add("Reciprocal", positive(s, x)))


@step("Pow")
def power(s: Sketch, x: str) -> str:
    exponent = s.among((2.0, 3.0, 0.5, -1.0, -0.5, -2.0, 1.5, 0.33, 4.0))
    if exponent not in (2.0, 3.0, 4.0):
        x = positive(s, x)
    return str(s.add("Pow", x, s.public(np.asarray(exponent, np.float32))))


# -- two operands -----------------------------------------------------------------------------------

for _op in ("Add", "Sub", "Mul", "Max", "Min"):
    STEPS[_op] = lambda s, x, op=_op: s.add(op, *_ordered(s, x))  # type: ignore[misc]


def _ordered(s: Sketch, x: str) -> tuple[str, str]:
    y = partner(s, x)
    return (y, x) if s.chance(25) else (x, y)


@step("Div")
def divide(s: Sketch, x: str) -> str:
    y = partner(s, x)
    if s.chance(50):
        return str(s.add("Div", x, y if np.abs(s.values[y]).min() > 0 else positive(s, y)))
    return str(s.add("Div", y, positive(s, x)))


@step("Clip")
def clip(s: Sketch, x: str) -> str:
    low, high = sorted((small(s), small(s)))
    which = s.whole(0, 2)
    names = [scalar(s, v, hidden=False) for v in (low, high)]
    return str(s.add("Clip", x, *([names[0]], ["", names[1]], names)[which]))


@step("comparison")
def comparison(s: Sketch, x: str) -> str:
    op = s.among(("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"))
    condition = s.add(op, *_ordered(s, x))
    if s.chance(30):
        condition = s.add("Not", condition)
    if s.chance(40):
        return str(s.add("Cast", condition, to=1))
    return str(s.add("Where", condition, x, partner(s, x)))


@step("squared difference")
def squares(s: Sketch, x: str) -> str:
    y = s.add("Sub", x, partner(s, x))
    return str(s.add("Mul", y, y))


# -- products ---------------------------------------------------------------------------------------


def weight_scale(s: Sketch, n: int) -> float:
    return s.among((1.0, 1.0, 0.3, s.magnitude(1e-5, 1e5))) / np.sqrt(n)


@step("MatMul")
def matmul(s: Sketch, x: str) -> str:
    rank_at_least(s, x, 2)
    n = s.shape(x)[-1]
    m = s.whole(1, 8)
    y = s.add("MatMul", x, s.constant(s.reals((n, m), weight_scale(s, n), "normal")))
    return str(s.add("Add", y, s.constant(s.reals((m,), 1.0))) if s.chance(40) else y)


@step("MatMul of data")
def gram(s: Sketch, x: str) -> str:
    rank_at_least(s, x, 2)
    perm = list(range(len(s.shape(x))))
    perm[-2:] = perm[-1], perm[-2]
    y = s.add("Transpose", x, perm=perm)
    return str(s.add("MatMul", *((x, y) if s.chance(50) else (y, x))))


@step("Gemm")
def gemm(s: Sketch, x: str) -> str:
    if len(s.shape(x)) != 2:
        raise Unfit("rank")
    n, m = s.shape(x)[1], s.whole(1, 6)
    w = s.constant(s.reals((m, n), weight_scale(s, n), "normal"))
    c = s.constant(s.reals((m,), 1.0))
    return str(s.add("Gemm", x, w, c, transB=1, alpha=s.among((1.0, 0.5, 100.0)), beta=s.among((1.0, 0.1))))


@step("Conv")
def conv(s: Sketch, x: str) -> str:
    rank_at_least(s, x, 3)
    if len(s.shape(x)) != 3:
        raise Unfit("rank")
    channels = s.shape(x)[1]
    w = s.constant(s.reals((s.whole(1, 3), channels, 2), weight_scale(s, 2 * channels), "normal"))
    return str(s.add("Conv", x, w, pads=[1, 0]))


@step("pool")
def pool(s: Sketch, x: str) -> str:
    if len(s.shape(x)) != 3:
        raise Unfit("rank")
    op = s.among(("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"))
    return str(s.add(op, x) if op.startswith("G") else s.add(op, x, kernel_shape=[2], strides=[1]))


# -- reductions -------------------------------------------------------------------------------------


@step("reduction")
def reduction(s: Sketch, x: str) -> str:
    op = s.among(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
         "ReduceLogSumExp", "ReduceLogSum", "ReduceProd")
    )  # fmt: skip
    if op == "ReduceLogSum":
        x = positive(s, x)
    rank = len(s.shape(x))
    over = s.among(((-1,), (0,), tuple(range(rank))))
    return str(s.add(op, x, axes(s, *over), keepdims=1 if rank < 3 else s.whole(0, 1)))


@step("less its mean")
def centred(s: Sketch, x: str) -> str:
    return str(s.add("Sub", x, s.add("ReduceMean", x, axes(s, -1))))


@step("place of the largest")
def place(s: Sketch, x: str) -> str:
    kind = s.whole(0, 2)
    last = len(s.shape(x)) - 1
    if kind < 2:
        found = s.add(("ArgMax", "ArgMin")[kind], x, axis=last, keepdims=1, select_last_index=s.whole(0, 1))
        return str(s.add("Cast", found, to=1))
    k = axes(s, s.whole(1, min(3, s.shape(x)[-1])))
    values, places = s.add("TopK", x, k, outputs=2, axis=last, largest=s.whole(0, 1))
    return str(values if s.chance(60) else s.add("Cast", places, to=1))


@step("CumSum")
def cumsum(s: Sketch, x: str) -> str:
    return str(s.add("CumSum", x, s.constant(np.array(len(s.shape(x)) - 1), "axis"), reverse=s.whole(0, 1)))
