"""Steps of a random graph that exporters write in several nodes: norms, softmaxes, attention."""

from __future__ import annotations

import numpy as np

from trial.sketch import Sketch, Unfit
from trial.steps import axes, rank_at_least, scalar, step


def epsilon(s: Sketch) -> float:
    return s.among((1e-5, 1e-6, 1e-12, 1e-8, 1e-3, s.magnitude(1e-12, 1.0)))


def trained_scale(s: Sketch, n: int) -> str:
    size = s.among((1.0, 1.0, 10.0, s.magnitude(1e-3, 1e5)))
    return s.constant(s.reals((n,), size, s.among(("offset", "normal", "outlier"))))


@step("norm")
def norm(s: Sketch, x: str) -> str:
    n = s.shape(x)[-1]
    if n < 2:
        raise Unfit("one element")
    eps = epsilon(s)
    if s.chance(50):
        given = [x, trained_scale(s, n)]
        if s.chance(50):
            given.append(s.constant(s.reals((n,), 1.0)))
        return str(s.add("LayerNormalization", *given, epsilon=eps, axis=-1))
    return str(s.add("RMSNormalization", x, trained_scale(s, n), epsilon=eps, axis=-1))


@step("norm by hand")
def norm_by_hand(s: Sketch, x: str) -> str:
    n = s.shape(x)[-1]
    if n < 2:
        raise Unfit("one element")
    last = axes(s, -1)
    if s.chance(60):
        x = s.add("Sub", x, s.add("ReduceMean", x, last))
    square = s.among(("Mul", "Pow"))
    squared = s.add("Mul", x, x) if square == "Mul" else s.add("Pow", x, s.public(np.float32(2)))
    mean = s.add(s.among(("ReduceMean", "ReduceSum", "ReduceMax")), squared, last)
    where = s.whole(0, 2)
    if where == 0:
        spread = s.add("Sqrt", s.add("Add", mean, scalar(s, epsilon(s), hidden=False)))
    elif where == 1:
        spread = s.add("Add", s.add("Sqrt", mean), scalar(s, epsilon(s), hidden=False))
    else:
        spread = s.add("Max", s.add("Sqrt", mean), scalar(s, epsilon(s), hidden=False))
    how = s.whole(0, 2)
    if how == 0:
        y = s.add("Div", x, spread)
    elif how == 1:
        y = s.add("Mul", x, s.add("Reciprocal", spread))
    else:
        one = s.public(np.float32(1))
        y = s.add("Mul", x, s.add("Div", one, spread))
    return str(s.add("Mul", y, trained_scale(s, n)) if s.chance(50) else y)


@step("norm of channels")
def channels(s: Sketch, x: str) -> str:
    shape = s.shape(x)
    if len(shape) != 3:
        raise Unfit("rank")
    c = shape[1]
    op = s.whole(0, 2)
    scale, bias = trained_scale(s, c), s.constant(s.reals((c,), 1.0))
    if op == 0:
        return str(s.add("InstanceNormalization", x, scale, bias, epsilon=epsilon(s)))
    if op == 1:
        return str(s.add("GroupNormalization", x, scale, bias, epsilon=epsilon(s), num_groups=1))
    mean = s.constant(s.reals((c,), min(float(np.abs(s.values[x]).max(initial=1.0)), 1e5)))
    variance = s.constant(s.reals((c,), s.magnitude(1e-6, 1e6), "positive"))
    return str(s.add("BatchNormalization", x, scale, bias, mean, variance, epsilon=epsilon(s)))


@step("unit length")
def unit(s: Sketch, x: str) -> str:
    how = s.whole(0, 2)
    if how == 0:
        return str(s.add("LpNormalization", x, axis=-1, p=s.whole(1, 2)))
    if how == 1:
        return str(s.add("Div", x, s.add("ReduceL2", x, axes(s, -1))))
    length = s.add("Clip", s.add("ReduceL2", x, axes(s, -1)), scalar(s, 1e-12, hidden=False))
    return str(s.add("Div", x, length))


@step("softmax")
def softmax(s: Sketch, x: str) -> str:
    return str(s.add(s.among(("Softmax", "Softmax", "LogSoftmax", "Hardmax")), x, axis=-1))


@step("softmax by hand")
def softmax_by_hand(s: Sketch, x: str) -> str:
    last = axes(s, -1)
    if s.chance(70):
        x = s.add("Sub", x, s.add("ReduceMax", x, last))
    e = s.add("Exp", x)
    total = s.add("ReduceSum", e, last)
    how = s.whole(0, 3)
    if how == 0:
        return str(s.add("Div", e, total))
    if how == 1:
        return str(s.add("Mul", e, s.add("Reciprocal", total)))
    if how == 2:
        return str(s.add("Sub", x, s.add("Log", total)))
    return str(s.add("Div", e, s.add("Add", total, scalar(s, epsilon(s), hidden=False))))


@step("log-sum-exp")
def log_sum_exp(s: Sketch, x: str) -> str:
    last = axes(s, -1)
    how = s.whole(0, 2)
    if how == 0:
        return str(s.add("ReduceLogSumExp", x, last))
    if how == 1:
        return str(s.add("Log", s.add("ReduceSum", s.add("Exp", x), last)))
    top = s.add("ReduceMax", x, last)
    inner = s.add("Log", s.add("ReduceSum", s.add("Exp", s.add("Sub", x, top)), last))
    return str(s.add("Add", top, inner))


@step("entropy")
def entropy(s: Sketch, x: str) -> str:
    p = s.add("Softmax", x, axis=-1)
    log = s.add("Log", s.add("Add", p, scalar(s, s.among((1e-8, 1e-9, 1e-6, 1e-12, 1e-5)), hidden=False)))
    return str(s.add("Neg", s.add("ReduceSum", s.add("Mul", p, log), axes(s, -1))))


@step("standardise")
def standardise(s: Sketch, x: str) -> str:
    n = s.shape(x)[-1]
    size = min(float(np.abs(s.values[x]).max(initial=1e-3)) or 1.0, 1e7)
    mean = s.constant(s.reals((n,), size, "normal"))
    deviation = s.constant(s.reals((n,), size * s.magnitude(1e-3, 1.0), "positive") + np.float32(size * 1e-3))
    return str(s.add("Div", s.add("Sub", x, mean), deviation))


@step("gate")
def gate(s: Sketch, x: str) -> str:
    activation = s.among(("Sigmoid", "Gelu", "Tanh", "Softplus", "Relu", "Erf", "Mish"))
    return str(s.add("Mul", x, s.add(activation, x), known_as="Swish"))


@step("GELU by hand")
def gelu_by_hand(s: Sketch, x: str) -> str:
    half, one = s.public(np.float32(0.5)), s.public(np.float32(1))
    if s.chance(60):
        inner = s.add("Erf", s.add("Div", x, s.public(np.float32(np.sqrt(2)))))
    else:
        cube = s.add("Pow", x, s.public(np.float32(3)))
        inner = s.add("Add", x, s.add("Mul", cube, s.public(np.float32(0.044715))))
        inner = s.add("Tanh", s.add("Mul", inner, s.public(np.float32(np.sqrt(2 / np.pi)))))
    return str(s.add("Mul", s.add("Mul", x, s.add("Add", inner, one)), half, known_as="Gelu"))


@step("attention")
def attention(s: Sketch, x: str) -> str:
    rank_at_least(s, x, 2)
    n = s.shape(x)[-1]
    d = s.among((2, 4))
    size = s.among((1.0, 3.0, 0.1, s.magnitude(1e-3, 100.0)))
    q, k, v = (s.add("MatMul", x, s.constant(s.reals((n, d), size / np.sqrt(n), "normal"))) for _ in range(3))
    perm = list(range(len(s.shape(x))))
    perm[-2:] = perm[-1], perm[-2]
    scores = s.add("MatMul", q, s.add("Transpose", k, perm=perm))
    scores = s.add("Mul", scores, s.public(np.float32(1 / np.sqrt(d))))
    if s.chance(40):
        length = s.shape(x)[-2]
        s.steps.append("causal")
        mask = np.triu(np.full((length, length), s.among((-np.inf, -1e9, -1e4, -65504.0)), np.float32), 1)
        scores = s.add("Add", scores, s.constant(np.where(np.isnan(mask), 0, mask)))
    return str(s.add("MatMul", s.add("Softmax", scores, axis=-1), v))


@step("residual")
def residual(s: Sketch, x: str) -> str:
    earlier = [n for n, v in s.values.items() if v.shape == s.shape(x) and s.fits(n)]
    return str(s.add("Add", x, s.among(earlier)))
