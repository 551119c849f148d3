"""A step starts with its last input, and a value goes with its last reader."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import parser

from onnxpuma.plan.plan import Plan, total
from onnxpuma.plan.timeline import Uses, events
from onnxpuma.roles.local.memory import MemoryModel

X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)


def model(body: str, outputs: str = "float[2, 3] y") -> MemoryModel:
    text = f'<ir_version: 10, opset_import: ["" : 20]> g (float[2, 3] x) => ({outputs}) {{ {body} }}'
    return MemoryModel(parser.parse_model(text), at_client=False)


def rounds(plan: Plan, output: str) -> int:
    return next(step.cost.rounds for step in plan.steps if output in step.outputs)


CROSSED = "a = Gelu(x) b = Relu(a) c = Relu(x) d = Gelu(c) y = Add(b, d)"


def test_a_short_step_does_not_wait_for_a_long_one_beside_it() -> None:
    """Two paths, a long step and a short one in both orders: as long as one path, not as two long steps."""
    made = model(CROSSED)
    run = made.run({"x": X})
    a, b, c, d = (rounds(run.plan, name) for name in "abcd")
    assert a > c > 0
    assert d > b > 0
    assert total([step for step in run.plan.steps if not step.checks]).rounds == max(a + b, c + d)
    assert run.cost == run.plan.cost
    half = X / 2 * (1 + np.vectorize(math.erf)(X / np.sqrt(2)))
    positive = np.maximum(X, 0)
    want = np.maximum(half, 0) + positive / 2 * (1 + np.vectorize(math.erf)(positive / np.sqrt(2)))
    assert np.abs(run.outputs["y"] - want).max() < 5e-3


def test_every_step_starts_after_those_that_it_reads_have_ended() -> None:
    plan = model(CROSSED).plan({"x": X})
    ended: set[str] = set()
    running: set[int] = set()
    most = 0
    made = {name for step in plan.steps for name in step.outputs}
    for step, starts in events(plan):
        if starts:
            read = {o.name for o in step.call.inputs if o is not None}
            assert read & made <= ended
            running.add(step.index)
        else:
            running.remove(step.index)
            ended.update(step.outputs)
        most = max(most, len(running))
    assert ended == made
    assert most >= 2


@pytest.mark.parametrize("kept", [False, True])
def test_a_value_goes_with_its_last_reader_and_an_output_stays(kept: bool) -> None:
    outputs = "float[2, 3] y, float[2, 3] a" if kept else "float[2, 3] y"
    plan = model("a = Gelu(x) b = Relu(a) c = Relu(b) y = Add(a, c)", outputs).plan({"x": X})
    uses = Uses(plan)
    over = {step.operator.name: uses.over(step) for step in plan.steps if not step.checks}
    assert "a" not in over["Gelu"] + over["Relu"]
    last = [n for step in plan.steps if step.checks for n in uses.over(step)] + over["Add"]
    assert ("a" in last) is not kept
    assert "y" not in last
    assert len(last) == len(set(last))
