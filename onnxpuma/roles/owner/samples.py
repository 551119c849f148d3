"""Samples to calibrate with: arrays as in a request, or with a leading axis of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.model import Graph
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.examine.calibrate import calibrate
from onnxpuma.roles.request.feed import check_feed

Samples: TypeAlias = "Iterable[Mapping[str, Any]]"  # of one graph


def calibrated(blueprint: Blueprint, graph: Graph, samples: Samples) -> Blueprint:
    """The blueprint with the ranges that its graph shows on the samples (plan/examine/calibrate.py).

    samples: each maps input names to arrays. An array of the input's own rank is one request's. An array with
    one more axis holds several requests along its first axis; all such arrays must hold the same number, and
    the other arrays belong to each request. Raises InputError as `check_feed` does, with the place among the
    samples, and where the numbers of samples differ.
    """
    return replace(blueprint, ranges=calibrate(blueprint, graph, _all_feeds(blueprint, samples)))


def _all_feeds(blueprint: Blueprint, samples: Samples) -> Iterator[dict[str, np.ndarray]]:
    for place, arrays in enumerate(samples):
        feeds = _feeds(blueprint, arrays)
        while True:
            try:
                feed = next(feeds, None)
            except InputError as error:
                raise InputError(f"calibrate[{place}]: {error.message}", error.hint) from error
            if feed is None:
                break
            yield feed


def _feeds(blueprint: Blueprint, arrays: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    given = {name: np.asarray(value) for name, value in arrays.items()}
    counts = {
        name: len(value)
        for name, value in given.items()
        if name in blueprint.inputs and value.ndim == len(blueprint.inputs[name].shape) + 1
    }
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"the arrays of the calibration hold different numbers of samples: {listing}",
            "their first axes must have the same length; or give one file a request",
        )
    for number in range(max(counts.values(), default=1)):
        feed = {name: value[number] if name in counts else value for name, value in given.items()}
        checked = check_feed(blueprint, feed)
        yield {name: np.asarray(value) for name, value in checked.items()}
