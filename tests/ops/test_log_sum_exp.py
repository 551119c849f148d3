"""Logarithms of sums of exponentials and of a softmax: scores of any size, every axis, masks beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxpuma.check.single import Comparison, compare, compare_model, plain
from onnxpuma.roles.local.memory import MemoryModel

Check = Callable[[Comparison, float], None]


def reals(*shape: int, mean: float = 0, scale: float = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, scale, shape).astype(np.float32)


@pytest.mark.parametrize(("mean", "scale"), [(0, 1), (0, 60), (0, 300), (-1e4, 9), (2e5, 100)])
def test_scores_of_any_size(check: Check, mean: float, scale: float) -> None:
    x = reals(4, 7, 3, mean=mean, scale=scale)
    tolerance = 1e-4 + 2e-7 * float(np.abs(x).max())
    check(compare("ReduceLogSumExp", {"x": x, "axes": np.array([1])}), tolerance)
    check(compare("LogSoftmax", {"x": x}, axis=1), tolerance)


@pytest.mark.parametrize("axes", [[0], [-1], [0, 2], [0, 1, 2], []])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_axes(check: Check, axes: list[int], keepdims: int) -> None:
    inputs = {"x": reals(3, 5, 4), "axes": np.array(axes, np.int64)}
    check(compare("ReduceLogSumExp", inputs, keepdims=keepdims), 1e-4)


@pytest.mark.parametrize("shape", [(), (1,), (2000, 2), (1, 900), (1600,)])
def test_sizes(check: Check, shape: tuple[int, ...]) -> None:
    check(compare("ReduceLogSumExp", {"x": reals(*shape)}), 1e-3 if len(shape) == 1 else 2e-4)
    if shape:
        check(compare("LogSoftmax", {"x": reals(*shape)}), 1e-3)


def test_scores_as_far_apart_as_is_declared(check: Check) -> None:
    x = reals(3, 6)
    x[0, 0], x[1, 5], x[2, 2] = 1000, -1000, 990
    check(compare("ReduceLogSumExp", {"x": x, "axes": np.array([1])}), 2e-4)


@pytest.mark.parametrize("low", ["-inf", "-1000000000.0", "-10000.0"])
def test_what_a_public_mask_leaves_out(check: Check, low: str) -> None:
    mask = np.array([[True, False, True, True], [False, True, False, False]])
    for node in ("s = ReduceLogSumExp(z, last)", "s = LogSoftmax(z)"):
        rest = "y = Identity(s)" if "Reduce" in node else "y = Where(mask, s, zero)"
        model = onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["" : 20]>'
            "g (float[2, 4] x, bool[2, 4] mask) => (float[n, m] y)"
            f"<float low = {{{low}}}, float zero = {{0}}, int64[1] last = {{-1}}>"
            f"{{ z = Where(mask, x, low) {node} {rest} }}"
        )
        check(compare_model(model, {"x": reals(2, 4, scale=30), "mask": mask}, ["mask"]), 2e-4)


@pytest.mark.parametrize("small", [1e-6, 1e-8, 1e-10, 1e-12])
def test_logarithms_with_a_small_number_inside(small: float) -> None:
    """As in models: beside a probability, beside a value that may be zero, beneath a square."""
    x = reals(4, 6, scale=4)
    x[0, :3] = 0
    bodies = ("p = Softmax(x) s = Add(p, c)", "p = Relu(x) s = Clip(p, c)", "p = Mul(x, x) s = Add(p, c)")
    for body in bodies:
        model = onnx.parser.parse_model(
            f'<ir_version: 9, opset_import: ["" : 20]> g (float[4, 6] x) => (float[4, 6] y)'
            f"<float c = {{{small:.12f}}}> {{ {body} y = Log(s) }}"
        )
        want = plain(model, {"x": x})[0]
        done = MemoryModel(model, at_client=False).run({"x": x})
        assert done.cost == done.plan.cost
        assert np.abs(done.outputs["y"] - want).max() <= 2e-2 * np.abs(want).max()
