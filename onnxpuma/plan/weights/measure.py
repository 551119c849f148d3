"""Measuring the facts of a graph's secret weights: each array is read once, a block at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from onnxpuma.graph.model import Graph
from onnxpuma.plan.weights.facts import Facts, stated
from onnxpuma.plan.weights.one_pass import View, measured
from onnxpuma.plan.weights.uses import Uses

_FEW = 16  # elements; the facts of a smaller array are coarser, as they say more about each number
_MOST_THREADS = 4


@dataclass(frozen=True)
class Measured:
    """What the arrays of a graph's weights show."""

    facts: Facts = field(default_factory=dict)
    # Secret real initializer -> its largest magnitude, exactly; not finite where a number in it is not.
    sizes: dict[str, float] = field(default_factory=dict)


def measure(graph: Graph, secret: Collection[str], public_inputs: Collection[str]) -> Measured:
    """Facts of every secret real weight, and of every value computed from weights alone.

    Cost: 70 to 200 operations for each element of a factor, on as many threads as there are cores, up to
    four. Memory: some ten megabytes a thread; a value computed from weights is in memory as a whole.
    """
    uses = Uses(graph, secret, public_inputs)
    views: dict[str, list[View]] = {}
    for name, roles in uses.roles.items():
        stored, turned = uses.stored(name)
        views.setdefault(stored, []).append(View(name, turned, roles, uses.widths(name)))
    found, weights = Measured(), set(secret)

    def look(stored: str) -> tuple[dict[str, dict[str, float]], int]:
        opened = uses.open(stored)
        if opened is None or not math.prod(opened[1]):
            return {}, 0
        read, shape, kind = opened
        if kind not in "fV":
            return {}, 0
        with np.errstate(all="ignore"):
            return measured(read, shape, views[stored]), math.prod(shape)

    in_files = [name for name in views if name in graph.initializers]
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        looks = dict(zip(in_files, pool.map(look, in_files), strict=True))
    for stored in views:
        seen, size = looks[stored] if stored in looks else look(stored)
        for name, quantities in seen.items():
            if name in weights:
                found.sizes[name] = quantities["size"]
            finite = {key: value for key, value in quantities.items() if math.isfinite(value)}
            if "size" in finite:
                coarse = 4 if size < _FEW else 1
                found.facts[name] = {key: stated(key, value, coarse) for key, value in finite.items()}
    return Measured({name: found.facts[name] for name in uses.roles if name in found.facts}, found.sizes)
