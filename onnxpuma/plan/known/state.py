"""The state of an unfinished plan: everything that the walk over the graph has found so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnxpuma.graph.model import Graph, Initializer, Node
from onnxpuma.mpc.cost import Network
from onnxpuma.ops.content import Content
from onnxpuma.ops.registry import Call, Operator
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.known.outline import Outline
from onnxpuma.plan.known.readers import Readers
from onnxpuma.plan.known.refusals import Refusal
from onnxpuma.plan.known.values import Known, Values
from onnxpuma.plan.known.watched import Watched
from onnxpuma.plan.plan import SecretInput, Selection, Step


@dataclass(frozen=True, slots=True)
class Settled:
    """A step in which all is settled but whether it truncates its results, which depends on their readers."""

    call: Call
    operator: Operator
    constant: bool
    # The values that are read to decide that.
    late: dict[str, Known | None]


@dataclass
class State:
    """First come fields that are given, or follow before the walk; then those that the walk fills."""

    blueprint: Blueprint
    selection: Selection
    budget: Budget
    network: Network
    # As `Outline` has them.
    nodes: Sequence[Node]
    producers: Mapping[str, Node]
    readers: Readers
    weights: Mapping[str, Initializer]
    finer: Mapping[str, int]

    values: Values = field(default_factory=Values)
    # In the graph's order. A reader that is planned later may still have a step truncate its result
    # (walk/deferral.py).
    steps: list[Step] = field(default_factory=list)
    # How often a reader has done so.
    revised: int = 0
    client_nodes: list[Node] = field(default_factory=list)
    # The inputs that the client shares, by the name that steps give them.
    inputs: dict[str, SecretInput] = field(default_factory=dict)
    # The inputs that the servers kept from an earlier run.
    held: dict[str, SecretInput] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    # The outputs of refused nodes -> whether they would have been secret.
    unknown: dict[str, bool] = field(default_factory=dict)
    # The inputs of refused nodes: the steps that compute them stay in the plan.
    wanted: set[str] = field(default_factory=set)
    watched: Watched = field(default_factory=Watched)
    # What answers were noted for (ops/content.py): they are needed again in the next plan.
    contents: list[Content] = field(default_factory=list)
    # The step that was planned last, for `Recall`.
    settled: Settled | None = None

    @classmethod
    def at_start(cls, outline: Outline, budget: Budget, network: Network) -> State:
        """Before any value is known."""
        return cls(
            outline.blueprint,
            outline.selection,
            budget,
            network,
            outline.nodes,
            outline.producers,
            outline.readers,
            outline.weights,
            outline.finer,
        )

    @property
    def graph(self) -> Graph:
        return self.blueprint.graph

    @property
    def opset(self) -> int:
        return self.graph.opset
