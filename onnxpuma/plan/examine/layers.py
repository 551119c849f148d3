"""The layers of a model, told by the names of its nodes, and what each part of it costs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

# Exporters number the nodes of repeated layers: model.layers.3.mlp/MatMul, /h.3/attn, encoder/block_3/.
_LAYER = re.compile(r"(?:^|[./_ ])(?:layers?|blocks?|h)[./_](\d+)(?=[./_]|$)", re.IGNORECASE)
_REWRITTEN = ("row", "selected")  # what a rewriting rule appends to a name that has no scope
_SCOPES = 2  # parts of a name that tell where a node lies, outside of layers
_FIRST = "start"


class Priced(Protocol):
    """A node with its cost."""

    @property
    def name(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def rounds(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class PartEntry:
    """What some nodes cost together, as if each waited for the one before."""

    name: str
    nodes: int
    rounds: int
    # Sent by all three parties together.
    bytes: int
    # On the links.
    seconds: float


def layer_of(name: str) -> int | None:
    """The number of the layer to which a node of this name belongs; None if the name has none."""
    found = _LAYER.search(name)
    return None if found is None else int(found[1])


def by_layer(nodes: Iterable[Priced]) -> list[PartEntry]:
    """The parts of a model in order: its layers, and what lies before, between and behind them.

    A node whose name has neither a layer nor a scope belongs to the part of the node before it.
    """
    found: dict[str, list[Priced]] = {}
    part = _FIRST
    for node in nodes:
        part = _part(node.name) or part
        found.setdefault(part, []).append(node)
    return [_sum(name, some) for name, some in found.items()]


def by_operator(nodes: Iterable[Priced]) -> list[PartEntry]:
    """The operators, those that send the most first; of equal ones by name."""
    found: dict[str, list[Priced]] = {}
    for node in nodes:
        found.setdefault(node.operator, []).append(node)
    sums = [_sum(name, some) for name, some in found.items()]
    return sorted(sums, key=lambda entry: (-entry.bytes, -entry.rounds, entry.name))


def _part(name: str) -> str:
    layer = _LAYER.search(name)
    if layer is not None:
        return name[: layer.end()].strip("/.")
    scopes = [scope for scope in name.split("/")[:-1] if scope]
    return "" if name.rpartition("/")[2] in _REWRITTEN else "/".join(scopes[:_SCOPES])


def _sum(name: str, nodes: list[Priced]) -> PartEntry:
    return PartEntry(
        name,
        len(nodes),
        sum(node.rounds for node in nodes),
        sum(node.bytes for node in nodes),
        sum(node.seconds for node in nodes),
    )
