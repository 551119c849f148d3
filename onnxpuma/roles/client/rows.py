"""Several feeds in one run: rows joined along the batch axis, and the results taken apart again.

A batch takes the rounds of a single row. The servers see its shapes, so the number of its rows too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any, TypeVar

import numpy as np

from onnxpuma.errors import InputError, ModelError

Item = TypeVar("Item")
Feed = Mapping[str, np.ndarray]
Dimensions = Mapping[str, Sequence["int | str | None"]]


def check_size(batch_size: object) -> int:
    """The size of a batch. InputError unless it is a whole number, one or more."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}", "pass a whole number, 1 or more")
    return int(batch_size)


def pieces(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """The items in lists of `count`, the last one perhaps shorter; reads no further than asked for."""
    left = iter(items)
    while piece := list(islice(left, count)):
        yield piece


def batched_inputs(inputs: Dimensions) -> tuple[str, ...]:
    """The inputs that have a row for each item: those whose first dimension is that of the first input.

    Raises InputError for a model whose first dimension is fixed.
    """
    name, dimensions = next(iter(inputs.items()))
    if not dimensions or isinstance(dimensions[0], int):
        fixed = f"the first dimension of '{name}' is {dimensions[0]}" if dimensions else f"'{name}' has none"
        raise InputError(
            f"this model has no batch axis: {fixed}",
            "omit batch_size, or export the model with a first dimension that varies",
        )
    return tuple(each for each, shape in inputs.items() if shape and shape[0] == dimensions[0])


def alike(feeds: Sequence[Feed], batched: Sequence[str]) -> list[list[int]]:
    """The places of the feeds that can share a run: of equal shapes but for the rows, and equal otherwise."""
    found: dict[Any, list[int]] = {}
    for place, feed in enumerate(feeds):
        key = tuple(
            (name, value.dtype.str, value.shape[1:] if name in batched else (value.shape, value.tobytes()))
            for name, value in sorted(feed.items())
        )
        found.setdefault(key, []).append(place)
    return list(found.values())


def joined(feeds: Sequence[Feed], batched: Sequence[str]) -> dict[str, np.ndarray]:
    """One feed of the rows of all of these, which are `alike`."""
    return {
        name: np.concatenate([feed[name] for feed in feeds]) if name in batched else value
        for name, value in feeds[0].items()
    }


def parted(outputs: Mapping[str, np.ndarray], counts: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """The outputs of each feed, given the rows that each had. ModelError for an output without these rows."""
    total = sum(counts)
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != total:
            raise ModelError(
                f"output '{name}' of shape {array.shape} has no row for each of {total} inputs",
                "omit batch_size, or name other outputs",
            )
    cuts = [0, *accumulate(counts)]
    return [{name: array[begin:end] for name, array in outputs.items()} for begin, end in pairwise(cuts)]
