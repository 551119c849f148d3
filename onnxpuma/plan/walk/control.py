"""If, Loop and Scan around secret values: their conditions are public, so the planner unrolls them.

The planner chooses the branch and repeats the body. Names inside a body are prefixed with the node's name and
the iteration, so that each iteration gets separate values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxpuma.graph.model import Graph, Node
from onnxpuma.graph.rename import renamed
from onnxpuma.plan.budget import MOST_ITERATIONS
from onnxpuma.plan.known.state import State
from onnxpuma.plan.walk.parts import Parts, Refused, add_constant, part


def unrolled(state: State, node: Node) -> Parts[None]:
    """The nodes of the chosen branch, or of every iteration."""
    if node.op == "If":
        chosen = _public(state, node.inputs[0], "condition")
        branch = node.attribute("then_branch" if bool(chosen) else "else_branch")
        results = yield from _inlined(state, branch, node.name, ())
        yield from _alias(state, node, results, node.outputs)
    elif node.op == "Loop":
        yield from _loop(state, node, node.attribute("body"))
    else:
        yield from _scan(state, node, node.attribute("body"))


def _loop(state: State, node: Node, body: Graph) -> Parts[None]:
    trips = _public(state, node.inputs[0], "trip count") if node.inputs[0] else None
    going = (
        True
        if len(node.inputs) < 2 or not node.inputs[1]
        else bool(_public(state, node.inputs[1], "condition"))
    )
    carried = [_named(name) for name in node.inputs[2:]]
    made: list[list[str]] = []
    turn = 0
    while going and (trips is None or turn < int(trips)):
        if turn >= MOST_ITERATIONS:
            raise Refused(f"it runs more than {MOST_ITERATIONS} iterations")
        place = f"{node.name}/{turn}"
        number = add_constant(state, f"{place}/turn", np.array(turn, np.int64))
        before = add_constant(state, f"{place}/going", np.array(True))
        results = yield from _inlined(state, body, place, (number, before, *carried))
        going = bool(_public(state, results[0], "condition"))  # known once the body is planned
        made.append(results[1 + len(carried) :])
        carried = results[1 : 1 + len(carried)]
        turn += 1
    yield from _alias(state, node, carried, node.outputs[: len(carried)])
    yield from _stack(state, node, made, node.outputs[len(carried) :])


def _scan(state: State, node: Node, body: Graph) -> Parts[None]:
    read = int(node.attribute("num_scan_inputs"))
    states, rows = node.inputs[: len(node.inputs) - read], node.inputs[len(node.inputs) - read :]
    scanned = [_named(name) for name in rows]
    axes = node.attribute("scan_input_axes") or [0] * read
    backwards = node.attribute("scan_input_directions") or [0] * read
    turns = state.values[scanned[0]].shape[axes[0]]
    if turns > MOST_ITERATIONS:
        raise Refused(f"it runs more than {MOST_ITERATIONS} iterations")
    carried = [_named(name) for name in states]
    made: list[list[str]] = []
    for turn in range(turns):
        place, current = f"{node.name}/{turn}", []
        for number, name in enumerate(scanned):
            at = turns - 1 - turn if backwards[number] else turn
            index = add_constant(state, f"{place}/place{number}", np.array(at, np.int64))
            row = f"{place}/row{number}"
            yield part(state, "Gather", row, (name, index), (row,), {"axis": axes[number]})
            current.append(row)
        results = yield from _inlined(state, body, place, (*carried, *current))
        carried, rest = results[: len(carried)], results[len(carried) :]
        made.append(rest)
    yield from _alias(state, node, carried, node.outputs[: len(carried)])
    yield from _stack(
        state,
        node,
        made,
        node.outputs[len(carried) :],
        node.attribute("scan_output_axes"),
        node.attribute("scan_output_directions"),
    )


def _stack(
    state: State,
    node: Node,
    made: Sequence[Sequence[str]],
    outputs: Sequence[str],
    axes: Sequence[int] | None = None,
    backwards: Sequence[int] | None = None,
) -> Parts[None]:
    """Each scan output: the results of all iterations along a new axis, by default the first."""
    axes, backwards = axes or [0] * len(outputs), backwards or [0] * len(outputs)
    for place, output in enumerate(outputs):
        if not output:
            continue
        if not made:
            raise Refused("it runs no iteration, so the shape of its scan outputs is not known")
        axis = add_constant(state, f"{node.name}/axis{place}", np.array([axes[place]], np.int64))
        names = [turn[place] for turn in made]
        if backwards[place]:
            names.reverse()
        spaced = [f"{name}/{output}" for name in names]
        for name, wide in zip(names, spaced, strict=True):
            yield part(state, "Unsqueeze", wide, (name, axis), (wide,), {})
        rank = len(state.values[spaced[0]].shape)
        attributes = {"axis": axes[place] % rank}
        yield part(state, "Concat", f"{node.name}/{output}", spaced, (output,), attributes)


def _inlined(state: State, graph: Graph, place: str, given: Sequence[str]) -> Parts[list[str]]:
    """The nodes of a body, on these values as its inputs. Returns the names of its outputs."""
    names = dict(zip(graph.inputs, given, strict=True))
    for name, initializer in graph.initializers.items():
        names[name] = add_constant(state, f"{place}/{name}", initializer.numpy())
    for inner in graph.nodes:
        names.update((output, f"{place}/{output}") for output in inner.outputs if output)
    for inner in graph.nodes:
        yield replace(renamed(inner, names), name=f"{place}/{inner.name}")
    return [names.get(output, output) for output in graph.outputs]


def _named(name: str | None) -> str:
    if name is None:
        raise Refused("one of its values is absent")
    return name


def _public(state: State, name: str | None, what: str) -> np.ndarray:
    value = state.values[_named(name)].value
    if value is None:
        raise Refused(
            f"its {what} is secret, and would decide which nodes run (--public-input shows the servers an"
            " input that it follows from)"
        )
    return value


def _alias(state: State, node: Node, names: Sequence[str], outputs: Sequence[str]) -> Parts[None]:
    for name, output in zip(names, outputs, strict=True):
        if output:
            yield part(state, "Identity", f"{node.name}/{output}", (name,), (output,), {})
