"""Calibration: how large the quantities of a model become on its owner's samples, as bounds for the planner.

The samples run in the clear, at the owner. Only a power of two is kept for each quantity that an operator's
kernel can use (`Limit.key`): the norm of the rows that a normalisation reads, the distance between the scores
of a row, the arguments of an activation. These are public, like the plan.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.model import Graph
from onnxpuma.ops.beside import unmasked
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.clear import ClearRun
from onnxpuma.plan.plan import Plan, Selection

MARGIN = 2  # bits between the largest quantity of all samples, rounded up to a power of two, and the bound
SMALLEST = -8  # the smallest exponent that is recorded

Ranges = dict[str, dict[str, int]]
Outside = dict[tuple[str, str], tuple[float, str]]  # (node, quantity) -> its value, its range


class RangeWarning(UserWarning):
    """A quantity of a sample lies outside a range that calibration does not move."""


def calibrate(blueprint: Blueprint, graph: Graph, feeds: Iterable[Mapping[str, np.ndarray]]) -> Ranges:
    """Node -> quantity -> the power of two that bounds it: 4 to 8 times the largest of all samples.

    feeds: complete ones, as `check_feed` returns them. Cost: one run of each sample in the clear, node by
    node, and memory for the values that are still read. Warns (RangeWarning) of a quantity outside a range
    that calibration does not move. Raises InputError without samples or where a sample leads to NaN, and as
    planning does.
    """
    largest: dict[str, dict[str, float]] = {}
    outside: Outside = {}
    samples = 0
    for samples, feed in enumerate(feeds, 1):  # noqa: B007  (how many there were)
        shapes = {name: value.shape for name, value in feed.items()}
        public = {name: feed[name] for name in blueprint.public_inputs}
        plan = compile_plan(blueprint, shapes, public, Selection(tuple(blueprint.outputs)))
        _observe(plan, graph, feed, largest, outside)
    for (node, what), (value, bounds) in outside.items():
        warnings.warn(
            f"on a sample {what} of node '{node}' is {value:.4g}, and must be {bounds}: on shares the result"
            " for such inputs is wrong",
            RangeWarning,
            stacklevel=2,
        )
    if not samples:
        raise InputError("there is no sample to calibrate with", "give at least one; some dozens are better")
    return {node: {key: _exponent(value) for key, value in found.items()} for node, found in largest.items()}


def _exponent(largest: float) -> int:
    if largest <= 0:
        return SMALLEST
    return max(SMALLEST, math.ceil(math.log2(largest)) + MARGIN)


def _observe(
    plan: Plan,
    graph: Graph,
    feed: Mapping[str, np.ndarray],
    largest: dict[str, dict[str, float]],
    outside: Outside,
) -> None:
    run = ClearRun(plan, graph, plan.client_values(feed))
    for step in plan.steps:
        if step.checks:
            run.free(step)
            continue
        call, inputs = step.call, run.inputs(step)
        outputs = run.results(step, inputs)
        operands = unmasked(inputs, call.inputs)
        results = unmasked(outputs, call.outputs)
        for limit in limits_of(step):
            if limit.key:  # calibration moves this range, so no quantity lies outside
                found = largest.setdefault(call.node.name, {})
                _check(call.node.name, inputs)
                found[limit.key] = max(found.get(limit.key, 0.0), limit.largest(call, operands, results))
                continue
            measured = limit.measured(call, operands, results)
            if measured is not None and not measured[1]:
                outside.setdefault((call.node.name, limit.what), (measured[0], limit.bounds))
        run.keep(step, outputs)
        run.free(step)


def _check(node: str, inputs: list[np.ndarray | None]) -> None:
    for values in inputs:
        if values is not None and values.dtype.kind == "f" and np.isnan(values).any():
            raise InputError(
                f"on a sample the inputs of node '{node}' are not numbers",
                "run the sample through onnxruntime, and look at its values there",
            )
