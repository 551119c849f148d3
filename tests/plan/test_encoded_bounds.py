"""Bounds hold for words: for public numbers and weights as encoded, not as written in the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxpuma.roles.local.memory import MemoryModel

UNIT = 2.0**-18


@pytest.mark.parametrize("number", [2.1, 2.49, 2.51, 2.9])  # units
@pytest.mark.parametrize("public", [["c"], []])
@pytest.mark.parametrize("floor", ["Max", "Clip"])
def test_what_follows_a_small_floor(floor: str, public: list[str], number: float) -> None:
    """1 / max(x, c) is largest if c is rounded down; tanh reads no further than the bounds."""
    c = number * UNIT
    text = f"g (float[3, 4] x) => (float[3, 4] y) <float c = {{{c:.9g}}}>"
    body = f"{{ w = {floor}(x, c) z = Reciprocal(w) y = Tanh(z) }}"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text} {body}')
    runner = MemoryModel(model, public=public, at_client=False)
    x = np.array([[-1, 0, 0.2, 1]] * 3, np.float32)
    outcome = runner.run({"x": x})
    assert np.abs(outcome.outputs["y"] - np.tanh(1 / np.maximum(x, c))).max() < 5e-3
    clipped = next(step for step in outcome.plan.steps if step.operator.name == floor).call.outputs[0]
    assert clipped.bound.low <= round(number) * UNIT
