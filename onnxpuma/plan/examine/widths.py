"""Weights in as many bits as they need: the owner chooses a ring for each when the model is prepared.

A weight that is read only as a factor of products is multiplied in its own ring. That ring has to hold the
product, at enough fraction bits of both factors; bounds say how large it may become. Behind a normalisation
they follow from the weight alone, for every input: a row has the length of its scale (Cauchy and Schwarz).
A table whose rows are only looked up at secret ids is read mod 2^32. All other weights keep all bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from onnxpuma.errors import ConfigError
from onnxpuma.graph.patterns import picked
from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.narrow_factor import READ_LARGE, WIDTHS
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import walked
from onnxpuma.plan.examine.example import draw_inputs
from onnxpuma.plan.examine.support import fitting_shapes
from onnxpuma.plan.examine.thrift import Width, thrifty, with_rings
from onnxpuma.plan.examine.width import AUTO, Choice
from onnxpuma.plan.known.decisions import readers_in
from onnxpuma.plan.known.state import State
from onnxpuma.plan.narrow import is_narrow
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.weights.factors import readings_of

READ = 15  # fraction bits at which `auto` reads a factor, at the least; the weight keeps its own
SPARE_LARGE = 2  # fraction bits that a weight of a large model may give up for a smaller ring


def with_widths(blueprint: Blueprint, policy: Policy, sizes: Mapping[str, int] | None = None) -> Blueprint:
    """The blueprint with a ring for each weight, as `policy.ring` and `policy.rings` say.

    sizes: dimensions of the example whose bounds count, by name. Cost: one plan. Raises ConfigError for a
    width in which the products of a weight do not fit, and for one that a weight's readers do not allow.
    """
    wishes = _wishes(blueprint, policy)
    if is_narrow(blueprint.resting) or set(wishes.values()) <= {RESTING.bits}:
        _check_resting(blueprint, policy)
        return blueprint
    uses = readings_of(blueprint.graph, blueprint.weights)
    large = blueprint.is_large
    state = _example(blueprint, sizes or {})
    readers, by_weight = readers_in(state.steps), _products(state)
    found: dict[str, Width] = {}
    for name, wish in wishes.items():
        if wish == RESTING.bits:
            continue
        named = any(name in picked(wishes, pattern) for pattern in policy.rings)
        least, spare = (READ_LARGE, SPARE_LARGE) if large else (READ, 0)
        choice = Choice(state, readers, blueprint, name, wish, least, spare)
        width = choice.width(uses[name], by_weight.get(name, []), named)
        if width is not None:
            found[name] = width
    free = {name: width for name, width in found.items() if wishes[name] == AUTO and width.reads is not None}
    if free and not large:
        kinds = {name: _kind(state, by_weight[name]) for name in free}
        kept = thrifty(state, blueprint, found, kinds)
        found = {name: width for name, width in found.items() if name not in free or name in kept}
    return with_rings(blueprint, found)


def check_rings(policy: Policy, graphs: Mapping[str, Blueprint]) -> None:
    """ConfigError for a width that is none, and for a pattern that matches no weight of any graph."""
    for bits in (policy.ring, *policy.rings.values()):
        if bits != AUTO and bits not in WIDTHS:
            raise ConfigError(
                f"a weight cannot be stored in {bits} bits", f"choose {AUTO}, {', '.join(map(str, WIDTHS))}"
            )
    names = {name for graph in graphs.values() for name in graph.weights}
    for pattern in policy.rings:
        if not picked(names, pattern):
            raise ConfigError(
                f"no secret weight matches '{pattern}'", "onnxpuma inspect lists the names; quote the pattern"
            )


def alike(graphs: Mapping[str, Blueprint], same: Mapping[tuple[str, str], object]) -> dict[str, Blueprint]:
    """The graphs with one ring for weights that are equal, so that these are stored once.

    same: (graph, weight) -> what equal weights have in common.
    """
    widest: dict[object, tuple[int, int]] = {}
    for (graph, weight), key in same.items():
        blueprint = graphs[graph]
        bits = blueprint.rings.get(weight, RESTING.bits)
        reads = blueprint.reads.get(weight, RESTING.bits)
        most, least = widest.get(key, (bits, reads))
        widest[key] = max(most, bits), min(least, reads)
    made = {}
    for name, blueprint in graphs.items():
        rings, reads_of = dict(blueprint.rings), dict(blueprint.reads)
        for weight in blueprint.rings:
            bits, reads = widest[same[name, weight]]
            if bits == RESTING.bits:
                del rings[weight]
                reads_of.pop(weight, None)
                continue
            rings[weight] = bits
            if weight in reads_of:
                reads_of[weight] = reads
        made[name] = replace(blueprint, rings=rings, reads=reads_of)
    return made


def _wishes(blueprint: Blueprint, policy: Policy) -> dict[str, int | str]:
    """Weight -> the width that the owner wishes."""
    names = blueprint.weights
    wishes = dict.fromkeys(names, policy.ring)
    for pattern, bits in policy.rings.items():
        wishes.update(dict.fromkeys(picked(names, pattern), bits))
    return wishes


def _check_resting(blueprint: Blueprint, policy: Policy) -> None:
    asked = {policy.ring, *policy.rings.values()} - {AUTO, RESTING.bits}
    if asked and is_narrow(blueprint.resting):
        raise ConfigError(
            f"the values of this model rest in {blueprint.resting.bits} bits, and so do its weights",
            "omit the rings of weights",
        )


def _example(blueprint: Blueprint, sizes: Mapping[str, int]) -> State:
    """The walk at an example's shapes; kept values that are known to be in range fill their inputs."""
    bare = replace(blueprint, checked=False, rings={}, reads={})
    shapes = fitting_shapes(bare, sizes)
    drawn = draw_inputs(bare, shapes)
    public = {name: drawn[name] for name in bare.public_inputs}
    held = tuple(name for name in bare.inputs if name in bare.facts)
    return walked(bare, shapes, public, Selection(tuple(bare.outputs), held=held))


def _kind(state: State, steps: list[tuple[int, str]]) -> tuple[object, ...]:
    """What the weights of one place in all layers have in common."""
    calls = [state.steps[number].call for number, _ in steps]
    return tuple(
        (re.sub(r"\d+", "*", c.node.name), *(o.shape for o in c.inputs if o and o.weight)) for c in calls
    )


def _products(state: State) -> dict[str, list[tuple[int, str]]]:
    """Weight -> the steps that read it, with the name under which they do."""
    origins = {name: name for name in state.weights}
    found: dict[str, list[tuple[int, str]]] = {}
    for number, step in enumerate(state.steps):
        for operand in step.call.inputs:
            if operand is None or operand.name not in origins:
                continue
            if step.operator.moves and all(o.weight for o in step.call.secrets):
                origins.update(dict.fromkeys(step.outputs, origins[operand.name]))
            else:
                found.setdefault(origins[operand.name], []).append((number, operand.name))
    return found
