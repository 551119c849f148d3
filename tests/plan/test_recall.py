"""Plans made with what an earlier one found are the plans that are made without it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.roles.request.plans import Plans

BODY = """
    k = MatMul(x, w)
    all = Concat <axis = 1> (past, k)
    turned = Transpose <perm = [0, 2, 1]> (all)
    s = MatMul(x, turned)
    near = Mul(s, scale)
    p = Softmax <axis = -1> (near)
    m = MatMul(p, all)
    r = Add(m, x)
    n = LayerNormalization <axis = -1> (r, one)
    g = Gelu(n)
    y = MatMul(g, w)
"""


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    """A layer with a cache; its weights are secret, and a number by which it scales its scores is public."""
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1, 1, 4] x, float[1, n, 4] past, float[1] scale)'
        f" => (float[1, 1, 4] y, float[1, m, 4] all) {{ {BODY} }}"
    )
    draw = np.random.default_rng(0)
    made = ir.from_proto(model)
    for name, array in (("w", draw.normal(size=(4, 4))), ("one", draw.uniform(1, 2, 4))):
        value = ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))
        made.graph.register_initializer(value)
        for node in made.graph:
            for place, given in enumerate(node.inputs):
                if given is not None and given.name == name:
                    node.replace_input_with(place, value)
    return prepare_model(made, Policy(public_inputs=("scale",)))[0]


def planned(blueprint: Blueprint, length: int, scale: float = 0.5, recall: Recall | None = None) -> Plan:
    shapes = {"x": (1, 1, 4), "past": (1, length, 4), "scale": (1,)}
    return compile_plan(blueprint, shapes, {"scale": np.array([scale], np.float32)}, recall=recall)


def told(plan: Plan) -> list[object]:
    """What a plan says of its steps, bounds included."""
    return [
        (step.index, step.label, step.resolves, step.constant, o.name, o.shape, o.format, o.form, o.bound)
        for step in plan.steps
        for o in step.call.outputs
    ]


def test_plans_for_a_growing_cache_are_those_made_anew(blueprint: Blueprint) -> None:
    recall = Recall()
    for length in (3, 4, 5, 300, 3):
        plan, fresh = planned(blueprint, length, recall=recall), planned(blueprint, length)
        assert plan.digest == fresh.digest
        assert told(plan) == told(fresh)
        assert plan.cost == fresh.cost
        assert [(i.name, i.shape, i.needs) for i in plan.inputs] == [
            (i.name, i.shape, i.needs) for i in fresh.inputs
        ]


def test_steps_that_do_not_see_the_length_are_kept_and_others_are_planned_again(blueprint: Blueprint) -> None:
    recall = Recall()
    first, second = (planned(blueprint, length, recall=recall) for length in (4, 5))
    calls = [{s.operator.name + s.outputs[0]: s.call for s in plan.steps} for plan in (first, second)]
    kept = {name for name in calls[0] if calls[0][name] is calls[1].get(name)}
    assert {"Geluy", "Gelug"} & set(calls[0]) <= kept
    assert any(name.startswith("LayerNormalization") for name in kept)
    assert not any(name.startswith(("Concat", "Softmax", "Attention")) for name in kept)


def test_other_public_values_are_seen(blueprint: Blueprint) -> None:
    recall = Recall()
    digests = set()
    for scale in (0.5, 2.0, 0.5):
        plan = planned(blueprint, 4, scale, recall)
        assert plan.digest == planned(blueprint, 4, scale).digest
        digests.add(plan.digest)
    assert len(digests) == 2


def test_plans_of_one_model_recall(blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, met = Plans(blueprint), []
    own = Recall.plan
    monkeypatch.setattr(Recall, "plan", lambda self, *rest: (met.append(self), own(self, *rest))[1])
    scale = {"scale": np.array([0.5], np.float32)}
    for length in (3, 4):
        shapes = {"x": (1, 1, 4), "past": (1, length, 4), "scale": (1,)}
        assert plans.get(shapes, scale).digest == planned(blueprint, length).digest
    own_recall = [recall for recall in met if recall in plans._recalls.values()]
    assert len(set(map(id, own_recall))) == 1
    assert len(own_recall) > len(BODY.split("\n")) // 2
