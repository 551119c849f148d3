"""Which weights a small model stores in fewer bits: those that make its plan no dearer.

The result of a product in a narrow ring may need a lift that the same product in a wide ring does without. A
large model gains more by reading fewer bytes of weights. In a small one a weight becomes narrow only if the
plan of an example sends no more bytes and takes no more rounds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.formats import with_formats
from onnxpuma.plan.known.state import State
from onnxpuma.plan.narrow_weights import with_narrow_weights
from onnxpuma.plan.schedule import scheduled
from onnxpuma.plan.terms import with_terms


@dataclass(frozen=True)
class Width:
    """The ring of one weight, and how its products read it."""

    bits: int
    # Fraction bits of the other factor of its products; None where it is only looked up.
    reads: int | None
    # Fraction bits of the weight.
    fraction: int


def with_rings(blueprint: Blueprint, widths: Mapping[str, Width]) -> Blueprint:
    """The blueprint with these rings."""
    fractions = dict(blueprint.fractions)
    for name, width in widths.items():
        if width.fraction != blueprint.format(name).fraction:
            fractions.pop(name, None)
            if width.fraction != RESTING.fraction:
                fractions[name] = width.fraction
    reads = {name: width.reads for name, width in widths.items() if width.reads is not None}
    rings = {name: width.bits for name, width in widths.items()}
    return replace(blueprint, rings=rings, reads=reads, fractions=fractions)


def thrifty(
    state: State, blueprint: Blueprint, widths: Mapping[str, Width], kinds: Mapping[str, Hashable]
) -> set[str]:
    """The weights among `kinds` whose rings together cost neither bytes nor rounds.

    state: the walk of an example. kinds: weight -> its kind; a kind becomes narrow as a whole. Cost: the
    formats of one plan for each kind, and three times more.
    """
    found = set(kinds)
    others = {name: width for name, width in widths.items() if name not in kinds}

    usual = _cost(state, with_rings(blueprint, others))
    if usual is None:
        return found
    most = usual

    def affordable(names: set[str]) -> bool:
        cost = _cost(state, with_rings(blueprint, {**others, **{name: widths[name] for name in names}}))
        return cost is not None and cost.rounds <= most.rounds and cost.bits <= most.bits

    if affordable(found):
        return found
    kept: set[str] = set()
    for kind in dict.fromkeys(kinds.values()):
        more = {name for name, own in kinds.items() if own == kind}
        if affordable(kept | more):
            kept |= more
    return kept


def _cost(state: State, blueprint: Blueprint) -> Cost | None:
    """Of the example's plan; None where a node refuses its weight."""
    bare = replace(blueprint, checked=False)
    trial = replace(state, blueprint=bare, steps=list(state.steps), refusals=[], inputs=dict(state.inputs))
    with_narrow_weights(trial)
    if trial.refusals:
        return None
    with_formats(trial)
    with_terms(trial)
    return scheduled(trial).cost
