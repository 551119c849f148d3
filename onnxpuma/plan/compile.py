"""From a blueprint and concrete shapes to a plan. One error names every node that cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxpuma.errors import InputError, UnsupportedModelError
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.ops.registry import operators
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.doubled import with_doubled
from onnxpuma.plan.formats import with_formats
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.known.refusals import Refusal
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.whole import Whole
from onnxpuma.plan.narrow_weights import with_narrow_weights
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.schedule import scheduled
from onnxpuma.plan.shapes import check_shapes
from onnxpuma.plan.terms import with_terms
from onnxpuma.plan.walk.start import enter_constants, enter_inputs
from onnxpuma.plan.walk.walk import visit, walk


def compile_plan(
    blueprint: Blueprint,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray] | None = None,
    selection: Selection | None = None,
    *,
    at_client: bool = True,
    budget: Budget | None = None,
    network: Network = USUAL,
    recall: Recall | None = None,
) -> Plan:
    """The plan at these input shapes and public input values.

    selection: the outputs to compute; by default the model's own, opened to the client. at_client: leave
    nodes that depend only on the client's input and public values to the client; False plans them on shares
    too, which is slower, and useful only to try operators. budget: what the run may cost. network: the one
    between the servers, for which kernels choose their ways. recall: what earlier plans with the same
    blueprint, selection, network and `at_client` found, which saves time. Raises InputError for a name or a
    shape that does not fit, for a plan beyond the budget, and for an output to keep that is not
    secret-shared; UnsupportedModelError naming every node without a secure kernel.
    """
    recall, budget = recall or Recall(), budget or Budget.unlimited()
    if recall.whole is not None:
        given = _given(blueprint, shapes, public_values, budget)
        again = recall.whole.again(*given, budget, recall.tables, visit)
        if again is not None:
            budget.check_plan(again.plan)
            recall.whole = again
            return again.plan
    state = walked(
        blueprint,
        shapes,
        public_values,
        selection,
        at_client=at_client,
        budget=budget,
        network=network,
        recall=recall,
    )
    plan = _finished(state, recall)
    if state.refusals:
        raise unsupported(state.refusals)
    for output in plan.kept:
        if not output.secret:
            raise InputError(
                f"output '{output.name}' is not secret-shared: there is nothing to keep at the servers",
                "the client knows it from its own inputs: ask for the value instead",
            )
    budget.check_plan(plan)
    recall.whole = Whole.of(plan, state)
    return plan


def unsupported(refusals: Sequence[Refusal]) -> UnsupportedModelError:
    """The error that names all these nodes."""
    listing = "\n  ".join(str(r) for r in refusals)
    count = len(refusals)
    known = operators()
    hint = "onnxpuma inspect shows every node; docs/operators.md lists what is supported"
    if all(refusal.sizes and refusal.operator in known for refusal in refusals):
        hint = (
            "other sizes may fit: a text can be longer than the model has positions, or a recording too short"
            " (--dim NAME=SIZE where inputs are drawn)"
        )
    elif any("secret integers" in refusal.reason for refusal in refusals):
        hint += "; --public-input makes an input public, and what follows from it, if the servers may see it"
    return UnsupportedModelError(
        f"{count} node{'s' if count > 1 else ''} of this model cannot run on shares:\n  {listing}", hint
    )


def survey(
    blueprint: Blueprint,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray] | None = None,
    selection: Selection | None = None,
    network: Network = USUAL,
) -> tuple[Plan, list[Refusal]]:
    """The plan as far as it goes, whatever it costs, and the refused nodes that it leaves out.

    Raises InputError for a name or a shape that does not fit.
    """
    state = walked(blueprint, shapes, public_values, selection, network=network)
    return _finished(state), state.refusals


def _finished(state: State, recall: Recall | None = None) -> Plan:
    recall = recall or Recall()
    with_narrow_weights(state, recall.narrowing)
    with_doubled(state, recall.doubling)
    with_formats(state, recall.resting)
    with_terms(state, recall.terms)
    return scheduled(state, recall.numbering)


def walked(
    blueprint: Blueprint,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray] | None = None,
    selection: Selection | None = None,
    *,
    at_client: bool = True,
    budget: Budget | None = None,
    network: Network = USUAL,
    recall: Recall | None = None,
) -> State:
    """The state after the walk: all real values rest in the format of the model. Raises as `survey`."""
    selection, budget = selection or Selection(tuple(blueprint.own_outputs)), budget or Budget.unlimited()
    shapes, public = _given(blueprint, shapes, public_values, budget)
    recall = recall or Recall()
    state = State.at_start(recall.outline(blueprint, selection), budget, network)
    enter_inputs(state, shapes, public, at_client)
    recall.constants(state, enter_constants)
    walk(state, recall)
    return state


def _given(
    blueprint: Blueprint,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray] | None,
    budget: Budget,
) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, np.ndarray]]:
    """These shapes and public values, checked, with the defaults of inputs that are left out."""
    defaults = {n: s.default for n, s in blueprint.inputs.items() if s.default is not None}
    shapes = {**{n: value.shape for n, value in defaults.items()}, **shapes}
    check_shapes(blueprint, shapes)
    budget.check_inputs(shapes.items())
    return shapes, {**defaults, **(public_values or {})}
