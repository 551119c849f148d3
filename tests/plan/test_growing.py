"""Plans for texts that grow by a token, each made from the one before, are those made from nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.graph.model import Node
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget, needed_bytes
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.widths import with_widths
from onnxpuma.plan.known.likeness import Likeness
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.tables import Tables
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.prepare import prepare
from onnxpuma.plan.timeline import course_of
from onnxpuma.plan.walk import walk

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"llama": ROOT / "tests" / "benchmarks" / "llama", "tales": ROOT / "models" / "tales"}
FAR = Network(bandwidth=4e8, latency=0.02)
# Around the borders of blocks and of powers of two, and back; the first text has no cache.
LENGTHS = (0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 5)


@cache
def blueprint_of(model: str, rings: bool = False) -> Blueprint:
    blueprint = prepare(MODELS[model] / "model.onnx")[0]
    return with_widths(blueprint, Policy()) if rings else blueprint


def planned(
    blueprint: Blueprint,
    past: int,
    new: int = 1,
    batch: int = 1,
    network: Network = USUAL,
    recall: Recall | None = None,
    position: int | None = None,
) -> Plan:
    """The plan that reads `new` tokens after `past` others; a model without a cache reads all."""
    caches = [name for name in blueprint.inputs if "past" in name]
    if not caches:
        past, new = 0, past + new
    size = {"batch": batch, "sequence": new, "past": past, "total": past + new}
    values: dict[str, Any] = {
        "attention_mask": np.ones((batch, past + new), np.int64),
        "position_ids": np.broadcast_to(
            np.arange(new) + (past if position is None else position), (batch, new)
        ),
    }
    shapes = {}
    for name, spec in blueprint.inputs.items():
        if spec.default is None:
            shapes[name] = tuple(size.get(d, 0) if isinstance(d, str) else int(d) for d in spec.shape)
    public = {
        name: values.get(name, np.zeros(shapes[name], blueprint.inputs[name].dtype))
        for name in blueprint.public_inputs
        if name in shapes
    }
    kept = tuple(name for name in blueprint.outputs if name.startswith("present"))
    selection = Selection(("next_token",), kept, tuple(caches) if past else ())
    return compile_plan(blueprint, shapes, public, selection, network=network, recall=recall)


def told(plan: Plan) -> list[object]:
    """All that a plan says."""
    steps = [
        (
            step.index,
            step.label,
            step.outputs,
            step.resolves,
            step.constant,
            step.cost,
            dict(step.call.bounds),
        )
        for step in plan.steps
    ]
    operands = [
        (o.name, o.shape, o.dtype, o.format, o.resting, o.form, o.bound, o.reads, o.reach, o.enough)
        for step in plan.steps
        for o in (*step.call.inputs, *step.call.outputs)
        if o is not None
    ]
    ends = plan.inputs, plan.held, plan.outputs, [node.name for node in plan.client_nodes]
    arrays = {name: (value.dtype, value.shape, value.tobytes()) for name, value in plan.known.items()}
    return [steps, operands, ends, arrays, plan.digest, plan.cost, needed_bytes(plan)]


def assert_same(blueprint: Blueprint, lengths: Sequence[int], **options: Any) -> None:
    # One recall for each selection, as `Plans` has them.
    recalls: dict[bool, Recall] = {}
    for length in lengths:
        recall = recalls.setdefault(length == 0, Recall())
        again = planned(blueprint, length, recall=recall, **options)
        assert told(again) == told(planned(blueprint, length, **options)), length


@pytest.mark.parametrize("rings", [False, True])
def test_tokens_with_a_cache(rings: bool) -> None:
    assert_same(blueprint_of("llama", rings), LENGTHS[:: 1 if rings else 5])


@pytest.mark.parametrize("options", [{"network": FAR}, {"batch": 2}, {"new": 3}])
def test_other_networks_batches_and_guesses(options: dict[str, Any]) -> None:
    assert_same(blueprint_of("llama", True), (1, 2, 16, 17, 65), **options)


def test_a_model_without_a_cache_reads_its_text_again() -> None:
    assert_same(blueprint_of("tales"), (4, 5, 16))


def test_what_does_not_depend_on_the_length_is_the_same_object() -> None:
    recall = Recall()
    first, second, third = (planned(blueprint_of("llama"), n, recall=recall) for n in (20, 21, 22))
    kept = [
        sum(map(lambda a, b: a is b, one.steps, other.steps))
        for one, other in ((first, second), (second, third))
    ]
    assert min(kept) > 0.6 * len(first.steps)
    assert course_of(first) is course_of(second)  # the third checks ranges in more steps


def test_a_plan_from_an_earlier_one_keeps_to_the_budget() -> None:
    """Public values count although the nodes that make them did not run again."""
    blueprint, recall = blueprint_of("llama"), Recall()
    spent = []
    for given in (None, recall, recall):
        budget = Budget.unlimited()
        shapes, public, selection = _request(blueprint)
        compile_plan(blueprint, shapes, public, selection, budget=budget, recall=given)
        spent.append(budget.spent)
    assert spent[0] > 0
    assert len(set(spent)) == 1


def _request(blueprint: Blueprint) -> tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray], Selection]:
    plan = planned(blueprint, 20)
    shapes = {entry.name: entry.shape for entry in (*plan.inputs, *plan.held)}
    public = {name: plan.known[name] for name in blueprint.public_inputs}
    shapes.update((name, value.shape) for name, value in public.items())
    held = tuple(entry.name for entry in plan.held)
    return shapes, public, Selection(("next_token",), tuple(o.name for o in plan.kept), held)


def test_a_plan_that_takes_over_too_much_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxpuma.plan.known.recall._holds", lambda state, read: True)
    with pytest.raises(AssertionError):
        assert_same(blueprint_of("llama"), (3, 4))


def test_steps_with_rotary_tables_are_planned_once_and_read_the_tables_of_each_position(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recall, visited = Recall(), list[str]()
    first = planned(blueprint_of("llama"), 20, recall=recall)
    monkeypatch.setattr("onnxpuma.plan.walk.walk.visit", noting(visited, walk.visit))
    second = planned(blueprint_of("llama"), 21, recall=recall)
    assert "Attention" in visited
    assert "RotaryEmbedding" not in visited
    one, other = (
        [step for step in plan.steps if step.operator.name == "RotaryEmbedding"] for plan in (first, second)
    )
    assert one
    for old, new in zip(one, other, strict=True):
        assert old.digest != new.digest
        for operand in new.call.inputs[1:]:
            assert operand is not None
            assert operand.value is second.known[operand.name]


def noting(visited: list[str], visit: Callable[[State, Node], bool]) -> Callable[[State, Node], bool]:
    def noted(state: State, node: Node) -> bool:
        visited.append(node.op)
        return visit(state, node)

    return noted


def assert_same_at(positions: Sequence[int]) -> None:
    """Plans for tokens at these positions after 20 others, each from the one before, are those made anew."""
    blueprint, recall = blueprint_of("llama"), Recall()
    for position in positions:
        again = planned(blueprint, 20, position=position, recall=recall)
        assert told(again) == told(planned(blueprint, 20, position=position)), position


def test_tables_of_another_scale_are_planned_again() -> None:
    """At the first position all cosines are one and all sines zero: they take no fraction bits."""
    assert_same_at((7, 0, 8))


def test_tables_that_are_wrongly_taken_for_alike_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "_see", lambda *_: True)
    with pytest.raises(AssertionError):
        assert_same_at((7, 0))


def test_layers_that_are_alike_are_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is taken over is renamed: the plans are those made anew."""
    taken: list[object] = []
    again = Likeness.again
    monkeypatch.setattr(Likeness, "again", lambda self, *given: taken.append(1) or again(self, *given))
    assert_same(blueprint_of("llama"), (40, 41))
    assert taken
