"""The public constants that an owner should look at before the model leaves the machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from onnxpuma.graph.attributes import classify_attributes, named_attributes
from onnxpuma.graph.model import Graph
from onnxpuma.graph.round_numbers import is_round
from onnxpuma.graph.visibility import ONES, THEIR_REASON

UNLISTED = 16  # elements; a larger public array is listed
PREVIEWED = 4  # numbers shown of each


@dataclass(frozen=True)
class PublicEntry:
    """A public constant, or an attribute, for the owner to look at."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    # Why it is public.
    reason: str
    # The first numbers.
    preview: tuple[float | int, ...]
    # It may have been trained.
    doubtful: bool = False


def listing(
    graph: Graph, visibility: Mapping[str, str], reasons: Mapping[str, str], doubtful: Collection[str]
) -> list[PublicEntry]:
    """Public arrays of more than 16 elements, single reals that are not round, and all doubtful constants, in
    the graph's order; then attributes that may have been trained, as "node.attribute".

    Scales of ones that canonicalisation added are left out.
    """
    found = []
    for name, constant in graph.initializers.items():
        if visibility[name] != "public" or _is_ours(name, reasons[name]):
            continue
        values = constant.numpy()
        if name in doubtful or constant.size > UNLISTED or _is_odd(values):
            found.append(_entry(name, values, reasons[name], name in doubtful))
    suspects = classify_attributes(graph)
    for name, _, values in named_attributes(graph):
        if name in suspects:
            found.append(_entry(name, values, suspects[name].reason, name in doubtful))
    return found


def _is_ours(name: str, reason: str) -> bool:
    return name.startswith(ONES) and reason == THEIR_REASON


def _is_odd(values: np.ndarray) -> bool:
    """Whether the array is one real number, repeated or not, that is not round."""
    if values.dtype.kind != "f" or not values.size:
        return False
    first = values.reshape(-1)[0]
    return bool(np.all(values == first)) and not is_round(float(first))


def _entry(name: str, values: np.ndarray, reason: str, doubtful: bool) -> PublicEntry:
    return PublicEntry(name, values.shape, values.dtype.name, reason, _first_numbers(values), doubtful)


def _first_numbers(values: np.ndarray) -> tuple[float | int, ...]:
    if values.dtype.kind in "OUS":
        return ()
    return tuple(np.asarray(v).item() for v in values.reshape(-1)[:PREVIEWED])
