"""The state of an unfinished plan: everything that the walk over the graph has found so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxpuma.graph.model import Graph, Initializer, Node
from onnxpuma.mpc.cost import Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.known.readers import Readers, needed, readers_of
from onnxpuma.plan.known.refusals import Refusal
from onnxpuma.plan.known.values import Values
from onnxpuma.plan.known.watched import Watched
from onnxpuma.plan.plan import SecretInput, Selection, Step
from onnxpuma.plan.weights.scaling import Scales


@dataclass
class State:
    """First come fields that are given, or follow before the walk; then those that the walk fills."""

    blueprint: Blueprint
    selection: Selection
    budget: Budget
    network: Network
    # The nodes that the outputs need, in the graph's order.
    nodes: list[Node]
    producers: dict[str, Node]
    readers: Readers
    # The secret initializers.
    weights: dict[str, Initializer]
    # Value -> extra fraction bits that it keeps (plan/weights/scaling.py).
    finer: dict[str, int]

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

    @classmethod
    def at_start(cls, blueprint: Blueprint, selection: Selection, budget: Budget, network: Network) -> State:
        """Before any value is known."""
        graph = blueprint.graph
        nodes = needed(graph.nodes, selection.outputs)
        scales = Scales(nodes, graph, blueprint.weights, blueprint.public_inputs, selection.kept)
        return cls(
            blueprint,
            selection,
            budget,
            network,
            nodes,
            producers={name: node for node in nodes for name in node.outputs if name},
            readers=readers_of(needed(nodes, selection.outputs, shapes=False), selection.outputs),
            weights={name: graph.initializers[name] for name in blueprint.weights},
            finer=scales.made(blueprint.finer),
        )

    @property
    def graph(self) -> Graph:
        return self.blueprint.graph

    @property
    def opset(self) -> int:
        return self.graph.opset
