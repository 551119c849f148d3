"""The predicted cost of a model, node by node; which of its constants are secret, and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.cost import FREE, Network
from onnxpuma.mpc.forms import Sum3
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import survey
from onnxpuma.plan.examine.choices import ChoiceEntry, choices
from onnxpuma.plan.examine.computing import Seconds, predicted
from onnxpuma.plan.examine.layers import PartEntry, by_layer, by_operator
from onnxpuma.plan.examine.machine import this_machine
from onnxpuma.plan.examine.page import summary, totals
from onnxpuma.plan.examine.plot import plot
from onnxpuma.plan.examine.proofs import RangeReport, examined
from onnxpuma.plan.examine.stored import StoredEntry, stored
from onnxpuma.plan.known.refusals import Refusal
from onnxpuma.plan.lanes.lanes import cost_in_lanes, in_lanes, lanes_of
from onnxpuma.plan.memory import Memory, memory
from onnxpuma.plan.plan import Plan, Step


@dataclass(frozen=True)
class NodeEntry:
    """One node of the canonical graph."""

    name: str
    operator: str
    shape: tuple[int, ...] | None
    # "secret"; "weights" (computed from secret weights alone, once, and kept); "client" (it follows from
    # the client's input and public values, and the client computes it); "public"; "unknown", after a node
    # that cannot run; or "unused".
    seen: str
    form: str = ""
    # Why the node cannot run; "" if it can.
    refused: str = ""
    rounds: int = 0
    # Sent by all three parties together.
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ConstantEntry:
    """One initializer: secret or public, and by which rule."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    secret: bool
    reason: str


@dataclass(frozen=True)
class CheckEntry:
    """The range check."""

    # Values that it checks on shares.
    values: int
    # Inputs that clients check themselves.
    inputs: int
    # Its part of the totals.
    rounds: int
    bytes: int


@dataclass(frozen=True, repr=False)
class ModelReport:
    """A whole model at concrete input shapes, for its own outputs.

    Steps side by side share their rounds, so the total is less than the sum over the nodes. Where nodes are
    refused, the totals are those of the rest.
    """

    digest: str
    network: Network
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    nodes: list[NodeEntry]
    constants: list[ConstantEntry]
    recognised: dict[str, int]
    rounds: int
    bytes: int
    seconds: float
    # Where operators have several ways to their results: the ways taken, and what the others would cost.
    choices: list[ChoiceEntry]
    # The time of a run, computing included.
    predicted: Seconds
    # Outputs that a client gets on request, in addition to the model's own.
    derived: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Outputs that can be kept at the servers, and not opened.
    closed: list[str] = field(default_factory=list)
    # Outputs that no client can request.
    hidden: list[str] = field(default_factory=list)
    # Memory of one server.
    memory: Memory = field(default=Memory(0, 0))
    # The rings of its weights.
    stored: list[StoredEntry] = field(default_factory=list)
    # None where the owner turned the check off.
    check: CheckEntry | None = None
    # The ranges, and which are proved (plan/examine/proofs.py).
    ranges: RangeReport | None = None
    # In how many lanes the servers compute rows (plan/lanes/lanes.py).
    lanes: int = 1

    @property
    def refused(self) -> list[NodeEntry]:
        """The nodes that cannot run on shares."""
        return [node for node in self.nodes if node.refused]

    @property
    def layers(self) -> list[PartEntry]:
        """The cost of each layer, and of what lies before and behind them."""
        return by_layer(self.nodes)

    @property
    def operators(self) -> list[PartEntry]:
        """The cost of all nodes of each operator, those that send the most first."""
        return by_operator(self.nodes)

    def plot(self) -> Any:
        """A figure of matplotlib with the cost of each layer. BuildError without that library."""
        return plot(self)

    def __repr__(self) -> str:
        return f"<ModelReport: {totals(self)}>"

    def _repr_html_(self) -> str:
        return summary(self)

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        whole, computing = self.predicted.whole, self.predicted.computing
        return {
            **asdict(self),
            "predicted": {**asdict(self.predicted), "computing": computing, "whole": whole},
        }


def report(
    blueprint: Blueprint,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray],
    network: Network,
    cores: int = 0,
    held: int | None = None,
    streamed: Collection[str] = (),
) -> ModelReport:
    """Price `blueprint` at these shapes on this network, node by node, including nodes that cannot run.

    cores: of each server, for the time of computing; 0 means as many as this machine has. held, streamed: as
    `memory` takes them.

    Raises InputError for a name or a shape that does not fit.
    """
    plan, refusals = survey(blueprint, shapes, public_values, network=network)
    cost = cost_in_lanes(plan)
    return ModelReport(
        blueprint.digest,
        network,
        {
            name: {
                "shape": tuple(shapes[name]),
                "dtype": spec.dtype.name,
                "secret": spec.secret,
                "vocabulary": spec.vocabulary,
                **({"optional": True} if spec.default is not None else {}),
                **({"sources": list(spec.sources)} if spec.sources else {}),
                **({"range": list(spec.declared)} if spec.declared else {}),
            }
            for name, spec in blueprint.inputs.items()
        },
        {o.name: {"shape": o.shape, "dtype": o.dtype.name, "secret": o.secret} for o in plan.results},
        _nodes(blueprint, plan, refusals, network),
        [
            ConstantEntry(
                name,
                initializer.shape,
                initializer.dtype.name,
                blueprint.visibility[name] == "secret",
                blueprint.reasons[name],
            )
            for name, initializer in blueprint.graph.initializers.items()
        ],
        blueprint.recognised,
        cost.rounds,
        round(cost.bytes),
        network.seconds(cost),
        choices(plan),
        predicted(plan, network, this_machine(), cores or os.cpu_count() or 1),
        {
            name: {"shape": blueprint.outputs[name].shape, "dtype": blueprint.outputs[name].dtype.name}
            for name in blueprint.derived_outputs
        },
        list(blueprint.closed),
        list(blueprint.hidden),
        memory(plan, blueprint, held, streamed),
        stored(blueprint, plan),
        _check(plan) if blueprint.checked else None,
        examined(blueprint, shapes, public_values),
        lanes_of(in_lanes(plan)),
    )


def _check(plan: Plan) -> CheckEntry:
    looked_at = {o.name for step in plan.steps if step.checks for o in step.call.inputs if o is not None}
    looked_at -= {name for step in plan.steps if step.checks for name in step.outputs}
    cost = plan.checks_cost
    inputs = sum(bool(entry.needs) for entry in plan.inputs)
    return CheckEntry(len(looked_at), inputs, cost.rounds, round(cost.bytes))


def _nodes(blueprint: Blueprint, plan: Plan, refusals: list[Refusal], network: Network) -> list[NodeEntry]:
    reasons = {refusal.node: refusal.reason for refusal in refusals}
    names = {node.name for node in blueprint.graph.nodes}
    steps: dict[str, list[Step]] = {}
    for step in plan.steps:
        steps.setdefault(_origin(step.call.node.name, names), []).append(step)
    client = {_origin(node.name, names) for node in plan.client_nodes}
    entries = []
    for node in blueprint.graph.nodes:
        operator = f"{node.domain}::{node.op}" if node.domain else node.op
        if node.name in reasons:
            entry = NodeEntry(node.name, operator, None, "secret", refused=reasons[node.name])
        elif node.name in steps:
            entry = _priced(node, operator, steps[node.name], network)
        else:
            seen = _elsewhere(node, plan, client, reasons)
            entry = NodeEntry(node.name, operator, _public_shape(node, plan), seen)
        entries.append(entry)
    return entries


def _origin(name: str, names: set[str]) -> str:
    """The node of the graph that a step belongs to. Steps of an expanded node are named after it."""
    while name not in names and "/" in name:
        name = name.rpartition("/")[0]
    return name


def _priced(node: Node, operator: str, steps: list[Step], network: Network) -> NodeEntry:
    """The cost of a node; if it runs as several steps, the sum, as if each waited for the one before."""
    made = [
        (operand, resolves)
        for step in steps
        for operand, resolves in zip(step.call.outputs, step.resolves, strict=True)
    ]
    operand, resolves = next((pair for pair in made if pair[0].name in node.outputs), made[-1])
    cost = sum((step.cost for step in steps), FREE)
    return NodeEntry(
        node.name,
        operator,
        operand.shape,
        "weights" if all(step.constant for step in steps) else "secret",
        _form(operand, resolves),
        "",
        cost.rounds,
        round(cost.bytes),
        network.seconds(cost),
    )


def _form(operand: Operand, resolved: bool) -> str:
    """The form of a result as its readers find it, in a word or two."""
    if operand.form is SecretIds:
        return "one-hot"
    if resolved or not operand.deferred:
        return "replicated"
    return (
        "product"
        if operand.form is Sum3
        else f"scaled, {operand.fraction - operand.resting.fraction:+d} bits"
    )


def _elsewhere(node: Node, plan: Plan, client: set[str], refused: Mapping[str, str]) -> str:
    if node.name in client:
        return "client"
    if any(name in plan.known for name in node.outputs if name):
        return "public"
    return "unknown" if refused else "unused"


def _public_shape(node: Node, plan: Plan) -> tuple[int, ...] | None:
    value = plan.known.get(node.outputs[0])
    return None if value is None else value.shape
