"""From a blueprint and concrete shapes to a plan. One error names every node that cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpuma.errors import InputError, UnsupportedModelError
from onnxpuma.graph.model import ValueType
from onnxpuma.ops.bounds import UNKNOWN
from onnxpuma.ops.registry import Operand, operators
from onnxpuma.ops.sight import last
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.inputs.spec import InputSpec
from onnxpuma.plan.known.refusals import Refusal
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.schedule import scheduled
from onnxpuma.plan.walk.operands import share
from onnxpuma.plan.walk.walk import walk


def compile_plan(
    blueprint: Blueprint,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray] | None = None,
    selection: Selection | None = None,
    *,
    at_client: bool = True,
    budget: Budget | None = None,
) -> Plan:
    """The plan at these input shapes and public input values.

    selection: the outputs that it is for; by default the model's own, opened to the client. at_client: leave
    nodes that depend on the client's input and public values alone to the client; False plans them on shares
    too, which is slower, and useful only to try operators. budget: what the run may cost.
    Raises InputError for a name or a shape that does not fit, for a plan beyond the budget, and for an output
    to keep that is not secret-shared; UnsupportedModelError naming every node without a secure kernel.
    """
    plan, refusals = survey(blueprint, shapes, public_values, selection, at_client=at_client, budget=budget)
    if refusals:
        raise unsupported(refusals)
    for output in plan.kept:
        if not output.secret:
            raise InputError(
                f"output '{output.name}' is not secret-shared: there is nothing to keep at the servers",
                "the client knows it from its own inputs: ask for the value instead",
            )
    if budget is not None:
        budget.check_plan(plan)
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
    *,
    at_client: bool = True,
    budget: Budget | None = None,
) -> tuple[Plan, list[Refusal]]:
    """The plan as far as it goes, and the refused nodes that it leaves out.

    Raises InputError for a name or a shape that does not fit.
    """
    defaults = {n: s.default for n, s in blueprint.inputs.items() if s.default is not None}
    shapes = {**{n: value.shape for n, value in defaults.items()}, **shapes}
    public_values = {**defaults, **(public_values or {})}
    selection = selection or Selection(tuple(blueprint.own_outputs))
    check_shapes(blueprint, shapes)
    budget = budget or Budget.unlimited()
    budget.check_inputs(shapes.items())
    state = State.at_start(blueprint, selection, budget)
    read_as_ids = {node.inputs[1] for node in blueprint.graph.nodes if node.op == "Gather"}
    for name, spec in blueprint.inputs.items():
        kind = ValueType(spec.dtype, tuple(shapes[name]))
        if spec.secret:
            state.values[name] = Known(kind, client=True, constant=False)
            if name in selection.held or (
                not at_client and name not in read_as_ids and spec.dtype.kind != "O"
            ):
                share(state, name)
        elif name not in public_values:
            raise InputError(
                f"the public input '{name}' has no value", "give it one: its values decide what is computed"
            )
        else:
            state.values[name] = Known(kind, np.asarray(public_values[name]), constant=False)
    for name, initializer in blueprint.graph.initializers.items():
        kind = ValueType(initializer.dtype, initializer.shape)
        if blueprint.visibility[name] == "secret":
            format = blueprint.format(name)
            operand = Operand(
                name, initializer.shape, initializer.dtype, format=format, resting=format, weight=True
            )
            known = blueprint.known_bounds.get(name, UNKNOWN)
            bound = known.around(format.unit / 2, last(operand))  # it is encoded
            state.values[name] = Known(kind, operand=replace(operand, bound=bound))
        else:
            state.values[name] = Known(kind, initializer.numpy())
    walk(state)
    return scheduled(state), state.refusals


def _too_small(spec: InputSpec, place: int, extent: int) -> bool:
    """Whether an axis is too short: an empty batch, no ids. A decoder's cache may be empty."""
    empty_default = spec.default is not None and spec.default.shape[place] == 0
    may_be_empty = spec.shape[place] == 0 or empty_default or (spec.dtype.kind == "f" and place > 0)
    return extent < (0 if may_be_empty else 1)


def weight_hint(blueprint: Blueprint, names: Sequence[str]) -> str:
    """The part of a hint about names in a feed that are weights, and no inputs."""
    name = next((name for name in names if name in blueprint.graph.initializers), None)
    if name is None:
        return ""
    return (
        f"; '{name}' is a weight and stays with the servers: prepare the model with --secret-input {name}"
        " to give it with each request, if its file lists it among its inputs"
    )


def check_shapes(blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError unless each input has one concrete shape, and these fit the declared ones."""
    missing = [n for n in blueprint.inputs if n not in shapes]
    extra = [n for n in shapes if n not in blueprint.inputs]
    if missing or extra:
        what = f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(extra)}"
        raise InputError(
            f"the inputs do not fit the model ({what})",
            f"it takes {', '.join(blueprint.inputs)}{weight_hint(blueprint, extra)}",
        )
    symbols: dict[str, int] = {}
    for name, spec in blueprint.inputs.items():
        shape = tuple(shapes[name])
        fits = len(shape) == len(spec.shape)
        for have, want in zip(shape, spec.shape, strict=False):
            if isinstance(want, int):
                fits = fits and have == want
            elif isinstance(want, str):
                fits = fits and symbols.setdefault(want, have) == have
        if fits and any(_too_small(spec, place, extent) for place, extent in enumerate(shape)):
            raise InputError(
                f"input '{name}' has shape {shape}, which is empty",
                "give it a batch of one or more, and at least one id",
            )
        if not fits:
            declared = ", ".join(str(d) for d in spec.shape)
            bound = ", ".join(f"{k} = {v}" for k, v in symbols.items())
            raise InputError(
                f"input '{name}' has shape {shape}, the model takes ({declared})"
                + (f" with {bound}" if bound else ""),
                "reshape it, or give all inputs the same batch and sequence",
            )
