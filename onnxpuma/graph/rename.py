"""A node with its values renamed, including those that its branches read from the graph around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from onnxpuma.graph.model import Graph, Node


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node, reading and making the values that `names` gives; other values keep their names."""
    attributes = {key: _rebound(value, names) for key, value in node.attributes.items()}
    return replace(
        node,
        inputs=tuple(None if n is None else names.get(n, n) for n in node.inputs),
        outputs=tuple(names.get(n, n) for n in node.outputs),
        attributes=attributes,
    )


def _rebound(value: Any, names: Mapping[str, str]) -> Any:
    """A branch; the values that it defines itself keep their names."""
    if not isinstance(value, Graph):
        return value
    own = set(_defined(value))
    outer = {old: new for old, new in names.items() if old not in own}
    captured = {name: outer.get(name, name) for name in value.captured()}
    outputs = {captured.get(name, name): kind for name, kind in value.outputs.items()}
    return replace(value, nodes=[renamed(inner, outer) for inner in value.nodes], outputs=outputs)


def _defined(graph: Graph) -> Iterator[str]:
    yield from graph.inputs
    yield from graph.initializers
    for node in graph.nodes:
        yield from node.outputs
