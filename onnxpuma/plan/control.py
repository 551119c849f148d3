"""If, Loop and Scan around secret values: what decides them is public, so they become lines of nodes.

A branch is chosen and a body repeated while the plan is made. Names inside are put behind the node's and the
turn's, so that every turn has values of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from onnxpuma.graph.model import Graph, Node, ValueType
from onnxpuma.graph.rename import renamed
from onnxpuma.plan.known import Known
from onnxpuma.standard.signature import since_version

MOST_TURNS = 10_000


class Walker(Protocol):
    """What of the walk is needed here."""

    graph: Graph
    values: dict[str, Known]

    def visit(self, node: Node) -> None: ...


class Unbounded(Exception):
    """The node cannot be unrolled; the message says why."""


def unroll(walk: Walker, node: Node) -> None:
    """Visit, in the node's place, the nodes that it comes down to. Raises Unbounded."""
    if node.op == "If":
        chosen = _public(walk, node.inputs[0], "condition")
        branch = node.attribute("then_branch" if bool(chosen) else "else_branch")
        _alias(walk, node, _inlined(walk, node, branch, node.name, ()), node.outputs)
    elif node.op == "Loop":
        _loop(walk, node, node.attribute("body"))
    else:
        _scan(walk, node, node.attribute("body"))


def _loop(walk: Walker, node: Node, body: Graph) -> None:
    trips = _public(walk, node.inputs[0], "trip count") if node.inputs[0] else None
    going = (
        True
        if len(node.inputs) < 2 or not node.inputs[1]
        else bool(_public(walk, node.inputs[1], "condition"))
    )
    carried = [_named(name) for name in node.inputs[2:]]
    made: list[list[str]] = []
    turn = 0
    while going and (trips is None or turn < int(trips)):
        if turn >= MOST_TURNS:
            raise Unbounded(f"it turns more than {MOST_TURNS} times")
        place = f"{node.name}/{turn}"
        number = add_constant(walk, f"{place}/turn", np.array(turn, np.int64))
        before = add_constant(walk, f"{place}/going", np.array(True))
        results = _inlined(walk, node, body, place, (number, before, *carried))
        going = bool(_public(walk, results[0], "condition"))
        made.append(results[1 + len(carried) :])
        carried = results[1 : 1 + len(carried)]
        turn += 1
    _alias(walk, node, carried, node.outputs[: len(carried)])
    _stack(walk, node, made, node.outputs[len(carried) :], [0] * (len(node.outputs) - len(carried)))


def _scan(walk: Walker, node: Node, body: Graph) -> None:
    read = int(node.attribute("num_scan_inputs"))
    states, rows = node.inputs[: len(node.inputs) - read], node.inputs[len(node.inputs) - read :]
    written = len(node.outputs) - len(states)
    axes = node.attribute("scan_input_axes") or [0] * read
    backwards = node.attribute("scan_input_directions") or [0] * read
    kinds = [walk.values[_named(name)].type.shape for name in rows]
    turns = int(kinds[0][axes[0]])  # type: ignore[index]
    if turns > MOST_TURNS:
        raise Unbounded(f"it turns more than {MOST_TURNS} times")
    carried = [_named(name) for name in states]
    made: list[list[str]] = []
    for turn in range(turns):
        place, current = f"{node.name}/{turn}", []
        for number, name in enumerate(rows):
            at = turns - 1 - turn if backwards[number] else turn
            index = add_constant(walk, f"{place}/place{number}", np.array(at, np.int64))
            row = f"{place}/row{number}"
            add_node(walk, "Gather", row, (_named(name), index), (row,), {"axis": axes[number]})
            current.append(row)
        results = _inlined(walk, node, body, place, (*carried, *current))
        carried, rest = results[: len(carried)], results[len(carried) :]
        made.append(rest)
    _alias(walk, node, carried, node.outputs[: len(carried)])
    out_axes = node.attribute("scan_output_axes") or [0] * written
    _stack(
        walk,
        node,
        made,
        node.outputs[len(carried) :],
        out_axes,
        node.attribute("scan_output_directions") or [0] * written,
    )


def _stack(
    walk: Walker,
    node: Node,
    made: Sequence[Sequence[str]],
    outputs: Sequence[str],
    axes: Sequence[int],
    backwards: Sequence[int] = (),
) -> None:
    """What the turns wrote, along a new axis of each output."""
    for place, output in enumerate(outputs):
        if not output:
            continue
        if not made:
            raise Unbounded("it does not turn once, and what it would have written has no shape")
        axis = add_constant(walk, f"{node.name}/axis{place}", np.array([axes[place]], np.int64))
        names = [turn[place] for turn in made]
        if place < len(backwards) and backwards[place]:
            names.reverse()
        spaced = [f"{name}/{output}" for name in names]
        for name, wide in zip(names, spaced, strict=True):
            add_node(walk, "Unsqueeze", wide, (name, axis), (wide,), {})
        rank = len(walk.values[spaced[0]].type.shape or ())
        add_node(walk, "Concat", f"{node.name}/{output}", spaced, (output,), {"axis": axes[place] % rank})


def _inlined(walk: Walker, node: Node, graph: Graph, place: str, given: Sequence[str]) -> list[str]:
    """Visit the graph's nodes with these values as its inputs; the names of its outputs."""
    names = dict(zip(graph.inputs, given, strict=True))
    for name, initializer in graph.initializers.items():
        names[name] = add_constant(walk, f"{place}/{name}", initializer.numpy())
    for inner in graph.nodes:
        names.update((output, f"{place}/{output}") for output in inner.outputs if output)
    for inner in graph.nodes:
        walk.visit(replace(renamed(inner, names), name=f"{place}/{inner.name}"))
    return [names.get(output, output) for output in graph.outputs]


def _named(name: str | None) -> str:
    if name is None:
        raise Unbounded("one of its values is absent")
    return name


def _public(walk: Walker, name: str | None, what: str) -> np.ndarray:
    value = walk.values[_named(name)].value
    if value is None:
        raise Unbounded(
            f"its {what} is secret: it would decide what is computed (if it follows from an input alone,"
            " --public-input lets the servers see that one)"
        )
    return value


def add_constant(walk: Walker, name: str, value: np.ndarray) -> str:
    """A public value of this name."""
    walk.values[name] = Known(ValueType(value.dtype, value.shape), value)
    return name


def _alias(walk: Walker, node: Node, names: Sequence[str], outputs: Sequence[str]) -> None:
    for name, output in zip(names, outputs, strict=True):
        if output:
            add_node(walk, "Identity", f"{node.name}/{output}", (name,), (output,), {})


def add_node(
    walk: Walker, op: str, name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Any
) -> None:
    """Visit a standard node that is not in the graph."""
    version = since_version(op, "", {"": walk.graph.opset})
    walk.visit(Node(name, op, "", version, tuple(inputs), tuple(outputs), attributes))
