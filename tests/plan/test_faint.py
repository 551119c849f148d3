"""Public numbers that keep few digits in fixed point: which readers check whether these matter."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpuma.roles.local.memory import MemoryModel

SMALL = 9.5e-7


def runner(body: str) -> MemoryModel:
    """A model of x (2, 3); c is small, half is 0.5, zero is 0, k contains the axis 1."""
    text = f'<ir_version: 10, opset_import: ["" : 23]> g (float[2, 3] x) => (float[2, 3] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    numbers = {"c": SMALL, "half": 0.5, "zero": 0.0}
    held = [numpy_helper.from_array(np.float32(value), name) for name, value in numbers.items()]
    held.append(numpy_helper.from_array(np.array([1]), "k"))
    model.graph.initializer.extend(held)
    return MemoryModel(model, public=[*numbers, "k"], at_client=False)


FLOOR = "m = Max(x, c) "
NEAR = np.array([[0, 1, 2], [3, 0.5, 1]], np.float32)

WATCHED = {
    "a root behind a sum": "g = Greater(x, zero) m = Where(g, x, c) s = CumSum(m, k) y = Sqrt(s)",
    "a broken power": FLOOR
    + "t = Transpose(m) u = Transpose(t) third = Constant<value_float=0.33>() y = Pow(u, third)",
    "the logarithm of a sum": FLOOR + "a = Identity(k) y = ReduceLogSum<keepdims=1>(m, a)",
    "a sign": FLOOR + "y = Sign(m)",
    "a comparison with zero": FLOOR + "g = Greater(m, zero) y = Cast<to=1>(g)",
    "a comparison with a value": "m = Add(x, c) n = Neg(x) g = Greater(m, n) y = Cast<to=1>(g)",
    "truth": FLOOR + "g = Cast<to=9>(m) y = Cast<to=1>(g)",
    "a ceiling": FLOOR + "y = Ceil(m)",
}


@pytest.mark.parametrize("way", WATCHED)
def test_a_value_so_small_that_the_number_counts_is_told(way: str) -> None:
    model = runner(WATCHED[way])
    near = model.run({"x": NEAR})
    assert not near.reliable
    far = model.run({"x": np.maximum(NEAR, 0.25)})
    assert far.reliable
    assert near.cost == near.plan.cost


@pytest.mark.parametrize(
    "body",
    [
        FLOOR + "g = Greater(m, half) y = Cast<to=1>(g)",
        FLOOR + "y = Relu(m)",
        FLOOR + "y = Pow(m, two)".replace("two", "k"),
        "m = Add(x, half) y = Sqrt(m)",
    ],
)
def test_who_cannot_tell_asks_nothing(body: str) -> None:
    done = runner(body).run({"x": NEAR})
    assert not any(step.checks for step in done.plan.steps)


@pytest.mark.parametrize("body", ["m = Max(x, c) y = Sqrt(m)", "m = Add(x, c) y = Sqrt(m)"])
def test_a_root_of_the_number_itself_is_right(body: str) -> None:
    done = runner(body).run({"x": NEAR * 100})
    assert done.reliable
    want = np.sqrt(np.maximum(NEAR * 100.0, SMALL))
    assert np.abs(done.outputs["y"] - want).max() < 1e-4
