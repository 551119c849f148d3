"""A secure run held against onnxruntime in the clear: how far apart, how long, how many bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import AccuracyError, InputError
from onnxpuma.graph.run import open_session
from onnxpuma.observe import OperatorUse, RunReport


@dataclass(frozen=True)
class Difference:
    """How one output differs from onnxruntime's. argmax_agreement: part of the rows (along the last axis)
    whose largest element is at the same place."""

    max_abs_error: float
    mean_abs_error: float
    reference_max_abs: float
    argmax_agreement: float


@dataclass(frozen=True)
class Validation:
    """One secure run and its differences. bytes_sent and peak_rss_bytes: one number for each party."""

    seconds: float
    setup_seconds: float
    bytes_sent: list[int]
    rounds: int
    peak_rss_bytes: list[int]
    outputs: dict[str, Difference]
    operators: dict[str, OperatorUse] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def check_tolerance(found: Validation, tolerance: float) -> None:
    """Raises AccuracyError naming the outputs whose largest error is above `tolerance`, or no number.

    tolerance: of the largest value of the output in the clear, and absolute where that is below 1.
    """
    apart = []
    for name, each in found.outputs.items():
        allowed = tolerance * max(1.0, each.reference_max_abs)
        if not each.max_abs_error <= allowed:
            apart.append(f"{name} by {each.max_abs_error:.3g}, where {allowed:.3g} is allowed")
    if apart:
        raise AccuracyError(
            f"the results differ from onnxruntime's: {'; '.join(apart)}",
            "`onnxpuma validate MODEL --per-node` names the node at fault; with --cluster see that the "
            "servers have the shares of this very model; --tolerance allows more",
        )


def run_in_the_clear(model: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name, from onnxruntime on this machine; what the file does not take is left out.

    Raises InputError with what onnxruntime says when it cannot run the model on this feed.
    """
    try:
        session = open_session(str(model))
        names = [output.name for output in session.get_outputs()]
        taken = {name: feed[name] for name in (i.name for i in session.get_inputs()) if name in feed}
        return dict(zip(names, session.run(names, taken), strict=True))
    except Exception as error:  # onnxruntime has many kinds, all its own
        raise InputError(
            f"onnxruntime cannot run {model.name} on these inputs: {error}",
            "there is nothing to compare with until it can: correct the model or the inputs",
        ) from error


def difference(secure: np.ndarray, reference: np.ndarray) -> Difference:
    """Compare one output; equal infinities and not-a-numbers do not differ."""
    if secure.shape != reference.shape:
        raise InputError(
            f"the secure output has shape {secure.shape}, onnxruntime's {reference.shape}",
            "the model's shape depends on values: export it with fixed shapes",
        )
    if reference.size == 0:
        return Difference(0.0, 0.0, 0.0, 1.0)
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
) -> Validation:
    """Put a secure run together with its reference; `reports` are the three parties'."""
    slowest = max(reports, key=lambda report: report.seconds)
    return Validation(
        seconds,
        setup_seconds,
        [report.bytes_sent for report in reports],
        max(report.rounds for report in reports),
        [report.peak_rss_bytes for report in reports],
        {name: difference(np.asarray(value), np.asarray(reference[name])) for name, value in outputs.items()},
        slowest.operators,
    )
