"""Bounds of values that one request leaves at the servers and the next one continues from: caches, states.

A cache holds entries of earlier requests, so its bound must be one that new entries do not change. The owner
finds it, starting from an empty cache, and states it as facts of the input and of the output. A client that
keeps an output at other sizes has the bound checked where the plan does not prove it (plan/bounds/checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnxpuma.errors import OnnxpumaError
from onnxpuma.ops.bounds import Bound
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import survey
from onnxpuma.plan.examine.example import draw_inputs
from onnxpuma.plan.examine.support import fitting_shapes
from onnxpuma.plan.inputs.closed import resumed_inputs, shared_inputs
from onnxpuma.plan.inputs.spec import LARGEST_KEPT
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.weights.facts import KEPT_ROOM, NOTHING, ArrayFacts, rounded

TURNS = 4  # successive requests after which a bound must be settled
Key = tuple[str, str]  # graph, value


def settled(graphs: Mapping[str, Blueprint]) -> dict[str, Blueprint]:
    """The graphs of a model, by name, with facts of the values that one of them keeps and one continues from.

    Cost: several plans of each graph with such an input. Where a graph cannot be planned, all stay unchanged.
    """
    sources = _sources(graphs)
    while sources:
        try:
            found, moving = _found(graphs, sources)
        except OnnxpumaError:
            return dict(graphs)
        if not moving:
            return {name: _with(graph, name, found, sources) for name, graph in graphs.items()}
        sources = {key: outputs for key, outputs in sources.items() if key not in moving}
    return dict(graphs)


def _sources(graphs: Mapping[str, Blueprint]) -> dict[Key, list[Key]]:
    """Input of reals -> the outputs that it may continue, by their names."""
    made = {(name, o): kind for name, graph in graphs.items() for o, kind in graph.outputs.items()}
    states = {o for name, graph in graphs.items() if name.startswith("encoder") for o in graph.outputs}
    outputs = [(output, kind) for (_, output), kind in made.items()]
    found: dict[Key, list[Key]] = {}
    for name, graph in graphs.items():
        inputs = shared_inputs(graph.graph, graph.public_inputs)
        reals = {n: kind for n, kind in inputs.items() if kind.dtype.kind == "f"}
        for taken, fitting in resumed_inputs(reals, outputs, (), states).items():
            found[name, taken] = [key for key in made if key[1] in fitting]
    return found


def _found(
    graphs: Mapping[str, Blueprint], sources: Mapping[Key, list[Key]]
) -> tuple[dict[Key, ArrayFacts], set[Key]]:
    """The facts of each input, and the inputs whose facts do not settle, or of which nothing is known."""
    facts: dict[Key, ArrayFacts] = dict.fromkeys(sources, NOTHING)
    moving: set[Key] = set()
    for _ in range(TURNS):
        bounds = _bounds(graphs, facts, sources)
        moving = set()
        for key, outputs in sources.items():
            made = [bounds[output] for output in outputs if output in bounds]
            after = _facts(made) if len(made) == len(outputs) else {}
            if "size" not in after:
                return facts, {key}
            before = facts[key]
            if before.keys() - after.keys() or any(after[kind] > before[kind] for kind in before):
                moving.add(key)
                facts[key] = {kind: max(after[kind], before[kind]) for kind in before if kind in after}
        if not moving:
            break
    return facts, moving


def _facts(bounds: list[Bound]) -> ArrayFacts:
    size, norm = max(b.size for b in bounds), max(b.norm for b in bounds)
    found = {key: value for key, value in (("size", size), ("row", norm)) if value < LARGEST_KEPT}
    return {key: rounded(value / KEPT_ROOM * (1 - 2.0**-30)) for key, value in found.items()}


def _bounds(
    graphs: Mapping[str, Blueprint], facts: Mapping[Key, ArrayFacts], sources: Mapping[Key, list[Key]]
) -> dict[Key, Bound]:
    """The bounds of all outputs that some input continues."""
    wanted = {output for outputs in sources.values() for output in outputs}
    found: dict[Key, Bound] = {}
    for name, graph in graphs.items():
        outputs = tuple(output for of, output in wanted if of == name)
        if not outputs:
            continue
        held = {taken: facts[of, taken] for of, taken in facts if of == name}
        known = replace(graph, facts={**graph.facts, **held}, checked=False)
        shapes = fitting_shapes(known, {})
        drawn = draw_inputs(known, shapes)
        public = {entry: drawn[entry] for entry in known.public_inputs}
        plan, _ = survey(known, shapes, public, Selection((), tuple(sorted(outputs)), tuple(held)))
        for operand in (o for step in plan.steps for o in step.call.outputs):
            if operand.name in outputs:
                found[name, operand.name] = operand.bound
    return found


def _with(
    graph: Blueprint, name: str, facts: Mapping[Key, ArrayFacts], sources: Mapping[Key, list[Key]]
) -> Blueprint:
    found = {taken: facts[of, taken] for of, taken in facts if of == name}
    for key, outputs in sources.items():
        for of, output in outputs:
            if of == name:
                before = found.get(output, facts[key])
                found[output] = {kind: min(before[kind], facts[key][kind]) for kind in before}
    return replace(graph, facts={**graph.facts, **found})
