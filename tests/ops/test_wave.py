"""Sines and cosines of secret angles, of any number of turns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxpuma.check.single import Comparison, compare, plain
from onnxpuma.roles.local.memory import MemoryModel

Check = Callable[[Comparison, float], None]
RNG = np.random.default_rng(4)
UNIT = 2.0**-18


@pytest.mark.parametrize("op", ["Sin", "Cos"])
@pytest.mark.parametrize("size", [1e-2, 1, 10, 1e3, 2.0**20, 2.0**24])
def test_angles_of_every_size(check: Check, op: str, size: float) -> None:
    """At numbers that shares represent exactly: the rounding of the angle is not this operator's error."""
    words = np.rint(RNG.uniform(-size, size, (40, 50)) / UNIT)
    x = (words * UNIT).astype(np.float32)
    x = (np.rint(x / UNIT) * UNIT).astype(np.float32)
    check(compare(op, {"x": x}), 1e-5)


@pytest.mark.parametrize("op", ["Sin", "Cos"])
def test_turning_points(check: Check, op: str) -> None:
    x = np.concatenate([np.arange(-8, 9) * np.pi / 2, [0, UNIT, -UNIT]]).astype(np.float32)
    for _ in range(5):
        check(compare(op, {"x": x}), 1.5e-5)


def test_rotation_by_secret_frequencies_through_a_shape() -> None:
    """As exporters write it: frequencies times positions, each repeated, reshaped to a computed shape."""
    text = """g (float[1, n, 8] x) => (float[1, n, 8] y)
        <float[1, 4, 1] f = {0.9, 0.4, 0.37, 0.02}, int64 one = {1}, int64 zero = {0},
         int64[2] front = {0, 1}, int64[1] last = {3}, int64[1] from = {0},
         int64[1] to = {2}, int64[1] rest = {-1}>
        {
            s = Shape(x)  n1 = Gather(s, one)  p = Range(zero, n1, one)  q = Cast <to = 1> (p)
            r = Unsqueeze(q, front)  a = MatMul(f, r)  b = Transpose <perm = [0, 2, 1]> (a)
            c = Unsqueeze(b, last)  d = Concat <axis = 3> (c, c)  e = Shape(d)  h = Slice(e, from, to)
            t = Concat <axis = 0> (h, rest)  angle = Reshape(d, t)
            u = Cos(angle)  v = Sin(angle)  w = Mul(x, u)  z = Mul(x, v)  y = Sub(w, z)
        }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    feed = {"x": RNG.normal(size=(1, 6, 8)).astype(np.float32)}
    want = plain(model, feed)[0]
    found = MemoryModel(model, at_client=False).run(feed).outputs["y"]
    np.testing.assert_allclose(found, want, atol=1e-3)
