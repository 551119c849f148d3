"""A plan taken over whole, with other late inputs, is the plan made anew; others are made anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from onnxpuma.errors import InputError
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.known.tables import Tables
from onnxpuma.plan.known.whole import Whole
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.standard.padding import BLOCK
from tests.plan.test_growing import FAR, blueprint_of, told


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each attempt took a plan over."""
    found: list[bool] = []
    again = Whole.again

    def noting(self: Whole, *given: Any) -> Whole | None:
        made = again(self, *given)
        found.append(made is not None)
        return made

    monkeypatch.setattr(Whole, "again", noting)
    return found


def planned(
    past: int,
    recall: Recall | None = None,
    mask: np.ndarray | None = None,
    network: Network = USUAL,
    budget: Budget | None = None,
) -> Plan:
    """The plan for a token after `past` others, as a decoder asks for it: behind padding."""
    blueprint = blueprint_of("llama", True)
    padding = -(past + 1) % BLOCK
    total = padding + past + 1
    if mask is None:
        mask = np.array([[0] * padding + [1] * (past + 1)])
    size = {"batch": 1, "sequence": 1, "past": total - 1, "total": total}
    shapes = {
        name: tuple(size.get(d, 0) if isinstance(d, str) else int(d) for d in spec.shape)
        for name, spec in blueprint.inputs.items()
        if spec.default is None
    }
    values = {"attention_mask": mask, "position_ids": np.array([[past]])}
    public = {
        name: values.get(name, np.zeros(shapes[name], blueprint.inputs[name].dtype))
        for name in blueprint.public_inputs
        if name in shapes
    }
    held = tuple(name for name in blueprint.inputs if "past" in name)
    kept = tuple(name for name in blueprint.outputs if name.startswith("present"))
    selection = Selection(("next_token",), kept, held)
    return compile_plan(blueprint, shapes, public, selection, network=network, budget=budget, recall=recall)


@pytest.mark.parametrize("network", [USUAL, FAR])
def test_the_tokens_of_a_block_have_one_plan_with_other_numbers(taken: list[bool], network: Network) -> None:
    recall = Recall()
    for past in range(21, 34):
        assert told(planned(past, recall, network=network)) == told(planned(past, network=network)), past
    first_of_blocks = [past for past in range(22, 34) if not past % BLOCK]
    anew = [past for past, one in zip(range(22, 34), taken, strict=True) if not one]
    assert anew == first_of_blocks


def test_steps_keep_what_they_found_of_themselves() -> None:
    recall = Recall()
    first, second = planned(20, recall), planned(21, recall)
    assert all(a.call.content is b.call.content for a, b in zip(first.steps, second.steps, strict=True))
    assert 0 < sum(a is b for a, b in zip(first.steps, second.steps, strict=True)) < len(first.steps)


def test_the_same_text_again_and_one_that_went_back(taken: list[bool]) -> None:
    recall = Recall()
    for past in (22, 22, 19, 20, 16):
        assert told(planned(past, recall)) == told(planned(past)), past
    assert taken == [True] * 4


def test_other_masks_are_planned_anew(taken: list[bool]) -> None:
    """A hole is no padding: steps leave these scores out."""
    recall, hole = Recall(), np.array([[0, 0, 1, 1, 1, 0, 1, 1] + [1] * 16])
    planned(21, recall)
    assert told(planned(21, recall, hole)) == told(planned(21, None, hole))
    assert told(planned(21, recall)) == told(planned(21))
    assert taken == [False, False]


def test_the_first_position_is_planned_anew(taken: list[bool]) -> None:
    """Its tables take no fraction bits."""
    recall = Recall()
    for past in (3, 0, 4):
        mask = np.array([[0] * (BLOCK - 1 - past) + [1] * (past + 1)])
        assert told(planned(past, recall, mask)) == told(planned(past, None, mask))
    assert taken == [False, False]


def test_a_plan_wrongly_taken_over_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "stand", lambda *_: True)
    recall, hole = Recall(), np.array([[0, 0, 1, 1, 1, 0, 1, 1] + [1] * 16])
    planned(21, recall)
    assert told(planned(21, recall, hole)) != told(planned(21, None, hole))


def test_it_keeps_to_the_budget(taken: list[bool]) -> None:
    recall, spent = Recall(), []
    for given in (None, recall, recall):
        budget = Budget.unlimited()
        planned(21 if given is None or not spent[1:] else 22, given, budget=budget)
        spent.append(budget.spent)
    assert taken == [True]
    assert len(set(spent)) == 1
    assert spent[0]
    small = Budget.unlimited()
    small.traffic = 1
    with pytest.raises(InputError, match="each server would send"):
        planned(23, recall, budget=small)


def test_an_array_that_the_caller_fills_anew(taken: list[bool]) -> None:
    recall, mask = Recall(), np.array([[0, 0] + [1] * 22])
    planned(21, recall, mask)
    mask[0, 1] = 1
    assert told(planned(22, recall, mask)) == told(planned(22))
    assert taken == [True]


def _blueprint(text: str, public: tuple[str, ...]) -> Blueprint:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 24]> {text}')
    return prepare_model(ir.from_proto(model), Policy(public_inputs=public))[0]


def test_numbers_that_planning_sees_are_planned_anew(taken: list[bool]) -> None:
    """A factor, and a value that the client computes with it."""
    by = _blueprint(
        "g (float[1, 4] x, float[1, 4] t) => (float[1, 4] y) { a = Mul(x, t) y = Softmax <axis = -1> (a) }",
        ("t",),
    )
    for at_client in (True, False):
        recall = Recall()
        for factor in (1.0, 0.3, 2.0, 2.0):
            given: dict[str, Any] = {"t": np.full((1, 4), factor, np.float32)}
            shapes = {"x": (1, 4), "t": (1, 4)}
            anew = compile_plan(by, shapes, given, at_client=at_client)
            assert told(compile_plan(by, shapes, given, at_client=at_client, recall=recall)) == told(anew)
    assert taken == [False, False, True] * 2
