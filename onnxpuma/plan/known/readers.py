"""Which nodes a run needs, and who reads each value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from onnxpuma.graph.model import Node

Reader: TypeAlias = "tuple[Node, int] | None"
"""A node and the place of the value among its inputs; None for a subgraph, or the model's caller."""


class Readers(dict[str, list[Reader]]):
    """Value -> the readers of its elements. Shape and Size read none."""

    def __init__(self) -> None:
        super().__init__()
        # Found so far by `masks.far_enough`: value -> the distance that its readers need.
        self.far: dict[str, float] = {}


def readers_of(nodes: Iterable[Node], outputs: Iterable[str]) -> Readers:
    """The readers of all values."""
    found = Readers()
    for node in nodes:
        if node.traits.of_shape:
            continue
        for place, name in enumerate(node.inputs):
            if name:
                found.setdefault(name, []).append((node, place))
        for graph in node.subgraphs:
            for name in graph.captured():
                found.setdefault(name, []).append(None)
    for name in outputs:
        found.setdefault(name, []).append(None)
    return found


def needed(nodes: Sequence[Node], outputs: Iterable[str], shapes: bool = True) -> list[Node]:
    """The nodes that these outputs need, in the graph's order.

    shapes: include nodes that are needed only for the shape of their result, and so never run.
    """
    wanted = set(outputs)
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            found.append(node)
            if node.traits.of_shape and not shapes:
                continue
            wanted.update(node.reads)
    return found[::-1]
