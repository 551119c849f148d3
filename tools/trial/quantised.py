"""Steps of a random graph with numbers of few bits: their saturation counts, their rounding does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from trial.sketch import Sketch, Unfit
from trial.steps import step, weight_scale

KINDS = (np.uint8, np.int8, np.uint16, np.int16)


def point_of(s: Sketch, kind: Any) -> int:
    ends = np.iinfo(kind)
    return int(
        s.among((0, ends.min, ends.max, (int(ends.min) + ends.max + 1) // 2, s.whole(ends.min, ends.max)))
    )


def cut(s: Sketch, x: str) -> str:
    """x quantised and dequantised, with a range that may clip some of it."""
    kind = s.among(KINDS)
    ends = np.iinfo(kind)
    size = float(np.abs(s.values[x]).max(initial=1e-3)) or 1.0
    reach = size * s.among((0.3, 0.7, 1.2, 3.0))
    by_channel = s.chance(25) and len(s.shape(x)) >= 2
    count = s.shape(x)[-1] if by_channel else 1
    steps = np.float32(reach / (int(ends.max) - int(ends.min))) * s.numbers(()).uniform(1, 2, count)
    points = np.array([point_of(s, kind) for _ in range(1 if not by_channel else min(count, 3))] * count)[
        :count
    ]
    scale, zero = steps.astype(np.float32), points.astype(kind)
    if not by_channel:
        scale, zero = scale[0], zero[0]
    given = [s.constant(np.asarray(scale), "scale"), s.constant(np.asarray(zero), "zero")]
    axis = {"axis": len(s.shape(x)) - 1} if by_channel else {}
    q = s.add("QuantizeLinear", x, *given, **axis)
    if s.chance(10):
        q = s.add("Transpose", s.add("Transpose", q, perm=list(range(len(s.shape(x))))[::-1]),
                  perm=list(range(len(s.shape(x))))[::-1])  # fmt: skip
    return str(s.add("DequantizeLinear", q, *given, **axis))


@step("few bits")
def few_bits(s: Sketch, x: str) -> str:
    if s.chance(30):
        x = s.add("Relu", x)
    return cut(s, x)


@step("few bits, weights too")
def product(s: Sketch, x: str) -> str:
    if len(s.shape(x)) < 2:
        raise Unfit("rank")
    n, m = s.shape(x)[-1], s.whole(1, 6)
    kind = s.among((np.int8, np.uint8))
    w = s.numbers(()).integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, (n, m)).astype(kind)
    scale = s.constant(np.float32(weight_scale(s, n) / 64), "scale")
    zero = s.constant(np.asarray(0 if kind == np.int8 else 128, kind), "zero")
    held = s.add("DequantizeLinear", s.constant(w), scale, zero)
    return str(s.add("MatMul", cut(s, x), held))


@step("few bits as they come")
def dynamic(s: Sketch, x: str) -> str:
    if len(s.shape(x)) < 2:
        raise Unfit("rank")
    n, m = s.shape(x)[-1], s.whole(1, 6)
    w = s.constant(s.numbers(()).integers(-128, 128, (n, m)).astype(np.int8))
    q, scale, zero = s.add("DynamicQuantizeLinear", x, outputs=3)
    whole = s.add("MatMulInteger", q, w, zero)
    both = s.add("Mul", scale, s.constant(np.float32(weight_scale(s, n) / 64)))
    return str(s.add("Mul", s.add("Cast", whole, to=1), both))


@step("QLinearMatMul")
def qlinear(s: Sketch, x: str) -> str:
    if len(s.shape(x)) != 2:
        raise Unfit("rank")
    n, m = s.shape(x)[-1], s.whole(1, 6)
    size = float(np.abs(s.values[x]).max(initial=1e-3)) or 1.0

    def numbers(step_size: float) -> list[str]:
        return [
            s.constant(np.float32(step_size), "scale"),
            s.constant(np.uint8(point_of(s, np.uint8)), "zero"),
        ]

    first = numbers(size / s.among((100.0, 200.0)))
    q = s.add("QuantizeLinear", x, *first)
    w = s.constant(s.numbers(()).integers(0, 256, (n, m)).astype(np.uint8))
    second = [s.constant(np.float32(0.01), "scale"), s.constant(np.uint8(128), "zero")]
    third = numbers(size * s.among((0.002, 0.01, 0.05)))
    made = s.add("QLinearMatMul", q, *first, w, *second, *third)
    return str(s.add("DequantizeLinear", made, *third))
