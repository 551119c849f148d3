"""The choices of a plan: of the ways to an operator's result, those that it takes, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from onnxpuma.mpc.cost import FREE, Cost, Network, W
from onnxpuma.ops.registry import altered
from onnxpuma.plan.plan import Plan, Step, total

Ways: TypeAlias = tuple[str, ...]  # the names of the ways of one choice, which identify it within an operator


@dataclass(frozen=True)
class WayEntry:
    """One way to the result of an operator."""

    name: str
    # The steps that take it, and their cost as far as the choice concerns it.
    steps: int
    rounds: int
    bytes: int
    # The whole model, if every step with this choice took this way.
    model_rounds: int
    model_bytes: int
    model_seconds: float


@dataclass(frozen=True)
class ChoiceEntry:
    """One choice of an operator, over all its steps."""

    operator: str
    ways: tuple[WayEntry, ...]


def choices(plan: Plan) -> list[ChoiceEntry]:
    """Every choice that the plan made, by operator."""
    found: dict[tuple[str, Ways], dict[str, list[Cost]]] = {}
    for step in plan.steps:
        if not step.constant:
            for ways, (way, cost) in _made(step).items():
                taken = found.setdefault((step.operator.name, ways), {name: [] for name in ways})
                taken[way].append(cost)
    return [
        ChoiceEntry(name, tuple(_entry(plan, name, ways, way, taken[way]) for way in ways))
        for (name, ways), taken in sorted(found.items())
    ]


def ways_taken(plan: Plan) -> dict[str, dict[str, int]]:
    """Operator -> way -> how many steps take it, for the operators that have several."""
    found: dict[str, dict[str, int]] = {}
    for step in plan.steps:
        for way, _ in () if step.constant else _made(step).values():
            taken = found.setdefault(step.operator.name, {})
            taken[way] = taken.get(way, 0) + 1
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Watched(Network):
    """A network that notes every choice. It makes those in `told` as they say. None is equal to another: what
    a step costs with one is not what it costs with the next."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    told: Mapping[Ways, str] = field(default_factory=dict)
    made: dict[Ways, tuple[str, Cost]] = field(default_factory=dict)

    def fastest(self, ways: Mapping[W, Cost]) -> W:
        names = tuple(_named(way) for way in ways)
        told = dict(zip(names, ways, strict=True)).get(self.told.get(names, ""))
        way = Network.fastest(self, ways) if told is None else told
        self.made[names] = _named(way), ways[way]
        return way


def _named(way: object) -> str:
    return str(way.value if isinstance(way, Enum) else way)


def _made(step: Step) -> dict[Ways, tuple[str, Cost]]:
    """The choices of a step: the way that it takes, and the cost of that part of it."""
    network = step.call.network
    watched = _Watched(network.bandwidth, network.latency)
    step.operator.cost(altered(step.call, network=watched))
    return watched.made


def _entry(plan: Plan, operator: str, ways: Ways, way: str, taken: list[Cost]) -> WayEntry:
    network = plan.network
    told = _Watched(network.bandwidth, network.latency, {ways: way})

    def cost(step: Step) -> Cost:
        if step.operator.name != operator:
            return step.cost
        return replace(step, call=altered(step.call, network=told)).cost

    whole = total(plan.steps, cost)
    part = sum(taken, FREE)
    return WayEntry(
        way,
        len(taken),
        part.rounds,
        round(part.bytes),
        whole.rounds,
        round(whole.bytes),
        network.seconds(whole),
    )
