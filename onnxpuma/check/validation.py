"""Compare a secure run with onnxruntime in the clear: differences, time, bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import AccuracyError, InputError, UnreliableError
from onnxpuma.graph.canonicalise import ROUNDED
from onnxpuma.graph.reference import run_file
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.mpc.forms.reading import StreamUse
from onnxpuma.observe import OperatorUse, RunReport
from onnxpuma.plan.examine.choices import ways_taken
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.client.client import Outcome


@dataclass(frozen=True)
class Difference:
    """How one output differs from onnxruntime's."""

    max_abs_error: float
    mean_abs_error: float
    reference_max_abs: float
    argmax_agreement: float  # the fraction of rows (along the last axis) with the same argmax


@dataclass(frozen=True)
class Validation:
    """One secure run and its differences."""

    seconds: float
    setup_seconds: float
    bytes_sent: list[int]  # by party
    rounds: int
    peak_rss_bytes: list[int]  # by party
    waited: list[float]  # seconds in wait for words of the others, by party
    # From onnxruntime on the nodes of the file; where these compute in another precision (`rounds`), from the
    # graph that runs, and `file` has the differences from the file.
    outputs: dict[str, Difference]
    operators: dict[str, OperatorUse] = field(repr=False)
    file: dict[str, Difference] = field(default_factory=dict)
    # The network for which it was planned, and operator -> way -> how many steps took it, where an operator
    # has several (plan/examine/choices.py).
    network: Network = USUAL
    ways: dict[str, dict[str, int]] = field(default_factory=dict)
    # By party: what its streamed weights took, and the seconds of each phase (`RunReport.phases`).
    streamed: list[StreamUse] = field(default_factory=list)
    phases: list[dict[str, float]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def check_tolerance(found: Validation, tolerance: float) -> None:
    """AccuracyError, which names them, for outputs whose largest error is NaN or above `tolerance`.

    tolerance: relative to the output's largest value in the clear, absolute where that is below 1.
    """
    apart = []
    for name, each in found.outputs.items():
        allowed = tolerance * max(1.0, each.reference_max_abs)
        if not each.max_abs_error <= allowed:
            apart.append(f"{name} by {each.max_abs_error:.3g}, where {allowed:.3g} is allowed")
    if apart:
        raise AccuracyError(
            f"the results differ from onnxruntime's: {'; '.join(apart)}",
            "`onnxpuma validate MODEL --per-node` names the node at fault; with --cluster check that the "
            "servers have the shares of this very model; --tolerance allows more",
        )


def run_in_the_clear(model: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name, from onnxruntime on this machine (`run_file`).

    Raises InputError, with onnxruntime's own message, when it cannot run the model on this feed.
    """
    try:
        return run_file(model, feed)
    except Exception as error:  # onnxruntime has many kinds, all its own
        raise InputError(
            f"onnxruntime cannot run {model.name} on these inputs: {error}",
            "there is nothing to compare with until it can: correct the model or the inputs;"
            " --dim NAME=SIZE draws inputs of other sizes",
        ) from error


def reliable(run: Callable[[], Outcome]) -> tuple[Outcome, UnreliableError | None]:
    """The outcome of a run, and the error if a value left its range on the way."""
    try:
        return run(), None
    except UnreliableError as error:
        if not isinstance(error.outcome, Outcome):
            raise
        return error.outcome, error


def rounds(recognised: Iterable[str]) -> bool:
    """Whether the nodes of a file compute in another precision than the graph that runs: halves, doubles, a
    few bits.

    recognised: the rules that matched when the model was canonicalised (`Blueprint.recognised`).
    """
    return not ROUNDED.isdisjoint(recognised)


def difference(secure: np.ndarray, reference: np.ndarray) -> Difference:
    """Compare one output; equal infinities and two NaNs do not differ."""
    if secure.shape != reference.shape:
        raise InputError(
            f"the secure output has shape {secure.shape}, onnxruntime's {reference.shape}",
            "the model's shape depends on values: export it with fixed shapes",
        )
    if reference.size == 0:
        return Difference(0.0, 0.0, 0.0, 1.0)
    if reference.dtype.kind in "OUS":  # text, which the client made, not the servers
        apart = (secure.astype(str) != reference.astype(str)).astype(np.float64)
        return Difference(float(apart.max()), float(apart.mean()), 0.0, float(1 - apart.mean()))
    ours, theirs = np.atleast_1d(secure.astype(np.float64)), np.atleast_1d(reference.astype(np.float64))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(ours - theirs))
    finite = theirs[np.isfinite(theirs)]
    return Difference(
        float(apart.max()),
        float(apart.mean()),
        float(np.abs(finite).max(initial=0.0)),
        float(np.mean(ours.argmax(axis=-1) == theirs.argmax(axis=-1))),
    )


def validation(
    outputs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    reports: Sequence[RunReport],
    seconds: float,
    setup_seconds: float,
    rounded: Mapping[str, np.ndarray] | None = None,
    plan: Plan | None = None,
) -> Validation:
    """Compare a secure run with its reference. reports: of the three parties. rounded: the outputs of the
    file's nodes, if the reference is not that. plan: that of the run."""
    slowest = max(reports, key=lambda report: report.seconds)
    return Validation(
        seconds,
        setup_seconds,
        [report.bytes_sent for report in reports],
        max(report.rounds for report in reports),
        [report.peak_rss_bytes for report in reports],
        [report.waited for report in reports],
        _differences(outputs, reference),
        slowest.operators,
        {} if rounded is None else _differences(outputs, rounded),
        USUAL if plan is None else plan.network,
        {} if plan is None else ways_taken(plan),
        [report.streamed for report in reports],
        [report.phases for report in reports],
    )


def _differences(
    outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, Difference]:
    return {
        name: difference(np.asarray(value), np.asarray(reference[name])) for name, value in outputs.items()
    }
