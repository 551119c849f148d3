"""What all plans of one graph and one selection of outputs have in common, before any value is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxpuma.graph.model import Initializer, Node
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.known.readers import Readers, needed, readers_of
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.weights.scaling import Scales


@dataclass(frozen=True, eq=False)
class Outline:
    """Which nodes a plan has, and how they hang together."""

    blueprint: Blueprint
    selection: Selection
    # The nodes that the outputs need, in the graph's order.
    nodes: Sequence[Node]
    producers: Mapping[str, Node]
    readers: Readers
    # The secret initializers.
    weights: Mapping[str, Initializer]
    # Value -> extra fraction bits that it keeps (plan/weights/scaling.py).
    finer: Mapping[str, int]

    @classmethod
    def of(cls, blueprint: Blueprint, selection: Selection) -> Outline:
        """That of a graph and of the outputs to compute. Cost: proportional to the number of nodes."""
        graph = blueprint.graph
        nodes = needed(graph.nodes, selection.outputs)
        scales = Scales(nodes, graph, blueprint.weights, blueprint.public_inputs, selection.kept)
        return cls(
            blueprint,
            selection,
            nodes,
            producers={name: node for node in nodes for name in node.outputs if name},
            readers=readers_of(needed(nodes, selection.outputs, shapes=False), selection.outputs),
            weights={name: graph.initializers[name] for name in blueprint.weights},
            finer=scales.made(blueprint.finer),
        )
