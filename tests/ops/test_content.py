"""Contents: equal for operands and calls that differ in names alone. What is noted there changes no plan."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.graph.model import Node
from onnxpuma.mpc.format import Format
from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.content import SMALL, Content
from onnxpuma.ops.registry import Call, Operand, altered
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.prepare import prepare

FLOAT = np.dtype(np.float32)
LLAMA = Path(__file__).parents[1] / "benchmarks" / "llama" / "model.onnx"


def secret(name: str, **facts: Any) -> Operand:
    return Operand(name, (2, 3), FLOAT, **facts)


def product(left: Operand, right: Operand, name: str = "y") -> Call:
    node = Node(name, "Mul", "", 14, (left.name, right.name), (name,))
    return Call(node, (left, right), 20, (secret(name),))


def test_a_name_is_no_content() -> None:
    assert secret("a").content is secret("b").content
    assert altered(secret("a"), name="b").content is secret("a").content
    first, second = product(secret("a"), secret("b")), product(secret("c"), secret("d"), "z")
    assert first.content is second.content
    assert first.again(second.node, second.inputs, second.outputs).content is second.content


@pytest.mark.parametrize(
    "facts",
    [
        {"bound": Bound(-1.0, 1.0)},
        {"format": Format(48, 18)},
        {"weight": True},
        {"beside": np.ones(3)},
        {"value": np.ones((2, 3), np.float32)},
        {"enough": 2.0},
    ],
)
def test_all_else_is(facts: dict[str, Any]) -> None:
    own = secret("a")
    assert own.content is not secret("a", **facts).content
    assert own.content is not altered(own, **facts).content
    assert product(own, own).content is not product(altered(own, **facts), own).content


def test_one_operand_read_twice_is_not_two_that_are_alike() -> None:
    assert product(secret("a"), secret("a")).content is not product(secret("a"), secret("b")).content


def test_a_nameless_output_is_not_one_that_is_read() -> None:
    assert secret("").content is not secret("a").content
    assert altered(secret("a"), name="").content is secret("").content


def test_large_arrays_are_equal_to_themselves_alone() -> None:
    large, small = np.zeros(SMALL), np.zeros(3)
    one, other = secret("a", value=large), secret("a", value=large.copy())
    assert one.content is secret("b", value=large).content
    assert one.content is not other.content
    assert secret("a", value=small).content is secret("a", value=small.copy()).content


def planned() -> Plan:
    blueprint, _ = prepare(LLAMA)
    size = {"batch": 1, "sequence": 3, "past": 0, "total": 3}
    shapes = {
        name: tuple(size.get(d, 0) if isinstance(d, str) else int(d) for d in spec.shape)
        for name, spec in blueprint.inputs.items()
        if spec.default is None
    }
    public = {
        name: np.ones(shapes[name], blueprint.inputs[name].dtype)
        for name in blueprint.public_inputs
        if name in shapes
    }
    return compile_plan(blueprint, shapes, public)


def told(plan: Plan) -> list[object]:
    return [
        (plan.digest, step.cost, step.resolves, o.name, o.format, o.form, o.bound)
        for step in plan.steps
        for o in step.call.outputs
    ]


def test_a_plan_that_notes_nothing_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = told(planned())

    def apart(key: Hashable) -> Content:
        return Content()

    monkeypatch.setattr("onnxpuma.ops.call.content_of", apart)
    assert told(planned()) == noted


def test_a_content_without_bounds_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = told(planned())
    monkeypatch.setattr(Bound, "key", 0)
    assert told(planned()) != noted
