"""In which rings the weights of a model are stored: the widths, what proves them, and what they save."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.narrow_factor import CALIBRATED as KEY
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.examine.proofs import CALIBRATED, CHECKED, HOPED, PROVED
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.weights.factors import PRODUCTS

_ORDER = (PROVED, CALIBRATED, CHECKED, HOPED)


@dataclass(frozen=True)
class StoredEntry:
    """Weights of one kind: their names differ in numbers only."""

    # The names, with a star for each number.
    names: str
    weights: int
    # Bits of a word, and how many of them are below the point.
    bits: int
    fraction: int
    # Fraction bits of the other factor of their products, where those are lowered; else None.
    reads: int | None
    # The largest result of their products, by bounds; None where none is known, or they are no factors.
    bound: float | None
    # PROVED, CALIBRATED or CHECKED; "" for weights that are no factors in this plan.
    state: str
    # Bytes of one component, and how many fewer these are than at all bits.
    bytes: int
    saved: int


def stored(blueprint: Blueprint, plan: Plan) -> list[StoredEntry]:
    """The weights of two and more dimensions by kind, the kinds that take most bytes first."""
    kinds: dict[tuple[object, ...], list[str]] = {}
    for name in blueprint.weights:
        initializer = blueprint.graph.initializers[name]
        if initializer.dtype.kind == "f" and len(initializer.shape) > 1:
            kind = re.sub(r"\d+", "*", name), *blueprint.format(name), blueprint.reads.get(name)
            kinds.setdefault(kind, []).append(name)
    readings: dict[str, list[tuple[float, str]]] = {}
    for name, step in _read(plan, {name for names in kinds.values() for name in names}):
        readings.setdefault(name, []).append((step.call.outputs[0].bound.size, _state(blueprint, step)))
    found = [_entry(blueprint, names, readings) for names in kinds.values()]
    return sorted(found, key=lambda entry: -entry.bytes)


def _entry(
    blueprint: Blueprint, names: Sequence[str], readings: dict[str, list[tuple[float, str]]]
) -> StoredEntry:
    format, reads = blueprint.format(names[0]), blueprint.reads.get(names[0])
    known = [reading for name in names for reading in readings.get(name, [])]
    largest = max((bound for bound, _ in known), default=float("inf"))
    size = sum(blueprint.graph.initializers[name].size for name in names)
    full = blueprint.resting.bytes(size)
    return StoredEntry(
        re.sub(r"\d+", "*", names[0]),
        len(names),
        *format,
        None if reads == RESTING.fraction else reads,
        largest if largest < float("inf") else None,
        max((state for _, state in known), key=_ORDER.index, default=""),
        format.bytes(size),
        full - format.bytes(size),
    )


def _read(plan: Plan, weights: set[str]) -> Iterator[tuple[str, Step]]:
    """Each weight with each product that reads it, directly or moved."""
    origins = {name: name for name in weights}
    for step in plan.steps:
        for operand in step.call.inputs:
            if operand is None or operand.name not in origins:
                continue
            if step.constant and step.operator.moves:
                origins.update(dict.fromkeys(step.outputs, origins[operand.name]))
            elif step.operator.name in PRODUCTS:
                yield origins[operand.name], step


def _state(blueprint: Blueprint, step: Step) -> str:
    limits = [limit for limit in limits_of(step) if limit.what == "|result|"]
    if all(limit.proved(step.call) for limit in limits):
        return PROVED
    if KEY in blueprint.ranges.get(step.call.node.name, {}):
        return CALIBRATED
    return CHECKED if blueprint.checked else HOPED
