"""The public constants that a model's owner is to look at before the model leaves his machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from onnxpuma.graph.model import Graph

# A public array of more elements is listed.
UNLISTED = 16
PREVIEWED = 4


@dataclass(frozen=True)
class PublicEntry:
    """A public constant: what it is, why it is public, its first numbers; doubtful: it may be trained."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    reason: str
    preview: tuple[float | int, ...]
    doubtful: bool = False


def listing(
    graph: Graph, visibility: Mapping[str, str], reasons: Mapping[str, str], doubtful: Collection[str]
) -> list[PublicEntry]:
    """Arrays of more than 16 elements, and all that is doubtful, in the graph's order."""
    found = []
    for name, constant in graph.initializers.items():
        if visibility[name] != "public" or (constant.size <= UNLISTED and name not in doubtful):
            continue
        numbers = _first_numbers(constant.numpy())
        entry = PublicEntry(
            name, constant.shape, constant.dtype.name, reasons[name], numbers, name in doubtful
        )
        found.append(entry)
    return found


def _first_numbers(values: np.ndarray) -> tuple[float | int, ...]:
    if values.dtype.kind in "OUS":
        return ()
    return tuple(np.asarray(v).item() for v in values.reshape(-1)[:PREVIEWED])
