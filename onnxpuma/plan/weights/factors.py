"""Which weights may be stored in few bits: those that are read as factors of products and as tables alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import onnxpuma.ops  # noqa: F401  (registers the operators)
from onnxpuma.graph.model import Graph, Node
from onnxpuma.ops.registry import find

PRODUCTS = ("MatMul", "Gemm")
Readers = Mapping[str, list[tuple[Node, int]]]


@dataclass
class Reading:
    """The nodes that read a weight, directly or after moves."""

    products: set[str] = field(default_factory=set)
    look_ups: set[str] = field(default_factory=set)
    # Why it keeps all bits; "" if nothing in the graph speaks against fewer.
    refused: str = ""


def readings_of(graph: Graph, weights: Collection[str]) -> dict[str, Reading]:
    """The readers of each weight."""
    readers: dict[str, list[tuple[Node, int]]] = {}
    captured = {name for node in graph.nodes for inner in node.subgraphs for name in inner.captured()}
    for node in graph.nodes:
        for slot, name in enumerate(node.inputs):
            if name:
                readers.setdefault(name, []).append((node, slot))
    found = {}
    for name in weights:
        kept = found[name] = Reading()
        if graph.initializers[name].dtype.kind != "f":
            kept.refused = "it is no real number"
            continue
        for reader in _readers(graph, readers, captured, name):
            if isinstance(reader, str):
                kept.refused = reader
            elif reader.op == "Gather":
                kept.look_ups.add(reader.name)
            else:
                kept.products.add(reader.name)
    return found


def _readers(graph: Graph, readers: Readers, captured: set[str], name: str) -> Iterator[Node | str]:
    """The products and look-ups that read a value; a text for any other reader."""
    if name in captured or name in graph.outputs:
        yield f"'{name}' leaves the graph, or enters a branch or a loop"
    for node, slot in readers.get(name, []):
        operator = find(node)
        if node.traits.of_shape:
            continue
        if not node.domain and (_multiplies(node, slot) or _looks_up(node, slot)):
            yield node
        elif operator is not None and operator.moves and slot == 0 and 0 not in node.traits.tables:
            for output in node.outputs:
                if output:
                    yield from _readers(graph, readers, captured, output)
        else:
            yield f"{node.op} '{node.name}' reads it"


def _looks_up(node: Node, slot: int) -> bool:
    return node.op == "Gather" and slot == 0 and not node.attribute("axis")


def _multiplies(node: Node, slot: int) -> bool:
    if node.op not in PRODUCTS or slot > 1:
        return False
    if node.op == "MatMul":
        return True
    return node.attribute("alpha") == 1.0 and node.attribute("beta") == 1.0 and not node.attribute("transA")
