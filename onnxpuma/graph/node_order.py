"""The order of nodes: every value is computed before it is read, including by a branch."""

from __future__ import annotations

from collections.abc import Iterator, Set
from heapq import heapify, heappop, heappush

import onnx

from onnxpuma.errors import EXPORT_AGAIN, ModelError
from onnxpuma.graph.dialect import inner_graphs


def sort_nodes(graph: onnx.GraphProto, model: str, outer: Set[str] = frozenset()) -> None:
    """Put the nodes of `graph`, and of the branches in it, in order, in place.

    outer: values of the graphs around it; model: its name, for errors. TorchScript writes branches that read
    values defined after them; a correct order is left unchanged. Raises ModelError for a value that nothing
    computes and for one that depends on itself.
    """
    known = outer | {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    made_by = {out: place for place, node in enumerate(graph.node) for out in node.output if out}
    reads = [set(_read_by(node)) - known for node in graph.node]
    for node, names in zip(graph.node, reads, strict=True):
        _check_made(node, names - made_by.keys(), model)
    for value in graph.output:
        if value.name not in known and value.name not in made_by:
            raise ModelError(f"{model}: nothing produces the output '{value.name}'", EXPORT_AGAIN)
    waits = [{made_by[name] for name in names} for names in reads]
    order = _order(waits)
    if len(order) < len(waits):
        _refuse_cycle(graph, waits, set(order), made_by, model)
    if order != list(range(len(order))):
        nodes = [onnx.NodeProto.FromString(graph.node[place].SerializeToString()) for place in order]
        del graph.node[:]
        graph.node.extend(nodes)
    around = known | made_by.keys()
    for node in graph.node:
        for inner in inner_graphs(node):
            sort_nodes(inner, model, around)


def _order(waits: list[set[int]]) -> list[int]:
    """The places in an order in which each comes after all that it waits for, otherwise as early as before;
    places that wait for themselves are left out."""
    readers: dict[int, list[int]] = {}
    for place, before in enumerate(waits):
        for maker in before:
            readers.setdefault(maker, []).append(place)
    missing = [len(before) for before in waits]
    ready = [place for place, count in enumerate(missing) if not count]
    heapify(ready)
    order = []
    while ready:
        place = heappop(ready)
        order.append(place)
        for reader in readers.get(place, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    return order


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for inner in inner_graphs(node):
        yield from _captured(inner)


def _captured(graph: onnx.GraphProto) -> set[str]:
    """The values that a branch reads and does not compute."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {out for node in graph.node for out in node.output}
    return {name for node in graph.node for name in _read_by(node)} - own


def _check_made(node: onnx.NodeProto, missing: Set[str], model: str) -> None:
    for name in sorted(missing):
        raise ModelError(
            f"{model}: {_called(node)} reads '{name}', which is no input, initializer or output of a node",
            "a weight is missing from the file: export it again",
        )


def _refuse_cycle(
    graph: onnx.GraphProto, waits: list[set[int]], placed: set[int], made_by: dict[str, int], model: str
) -> None:
    """Follow the dependencies until a node recurs: that one is in the cycle."""
    place, seen = min(set(range(len(waits))) - placed), set()
    while place not in seen:
        seen.add(place)
        place = min(waits[place] - placed)
    node = graph.node[place]
    through = next(n for n in _read_by(node) if n in made_by and made_by[n] not in placed)
    raise ModelError(f"{model}: {_called(node)} needs its own output through '{through}'", "remove the cycle")


def _called(node: onnx.NodeProto) -> str:
    return f"{node.op_type} node '{node.name or next((o for o in node.output if o), '')}'"
