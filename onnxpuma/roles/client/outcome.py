"""The result of one request: what the client opened, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from onnxpuma.errors import UnreliableError
from onnxpuma.observe import RunReport
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.request.answer import open_result
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.receipt import Receipt
from onnxpuma.standard.units import duration, shape, size
from onnxpuma.transport.cluster import Answer

SMALL = 64  # elements of an array that is shown whole


@dataclass(frozen=True, repr=False)
class Outcome:
    """The result of one request. Its `repr` shows no value, as logs keep it; a notebook shows small ones."""

    outputs: dict[str, np.ndarray]  # by name, in the order asked for, in the declared types
    reports: tuple[RunReport, ...]  # of the three servers
    # From the first byte sent to the last received, including time queued behind other clients; `reports`
    # give the time of computing alone.
    seconds: float
    setup_seconds: float  # planning and sharing, before `seconds` begin
    kept: dict[str, Kept] = field(default_factory=dict)  # handles of the outputs that stay, by name
    receipt: Receipt | None = None  # of the three servers, checked, if they sign

    @property
    def bytes_sent(self) -> int:
        """By all three servers to each other."""
        return sum(report.bytes_sent for report in self.reports)

    @property
    def rounds(self) -> int:
        return max((report.rounds for report in self.reports), default=0)

    @property
    def cost(self) -> str:
        """Time, bytes and rounds in one line."""
        return (
            f"{duration(self.seconds)} online after {duration(self.setup_seconds)} of planning and sharing,"
            f" {size(self.bytes_sent)} sent by all three servers, {self.rounds:,} rounds"
        )

    def __repr__(self) -> str:
        listing = described(self.outputs)
        kept = f", keeps {', '.join(self.kept)}" if self.kept else ""
        return f"<Outcome: {listing}{kept}; {self.cost}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{array.dtype.name}</td><td>{shape(array.shape)}</td>"
            f"<td style='text-align:left'><code>{escape(_values(array))}</code></td></tr>"
            for name, array in self.outputs.items()
        )
        head = "<tr><th>output</th><th>type</th><th>shape</th><th style='text-align:left'>values</th></tr>"
        return f"<table>{head}{rows}</table><p>{escape(self.cost)}</p>"


def opened_outcome(
    plan: Plan,
    answers: Sequence[Answer],
    values: Mapping[str, np.ndarray],  # the client's own, by name
    selection: Selection,
    handle: bytes,
    receipt: Receipt | None,
    seconds: float,
    setup_seconds: float,
) -> Outcome:
    """The result, put together from the terms of three servers. UnreliableError, with the outcome, when a
    value left its range."""
    secrets, reports = open_result(plan, answers)
    types = {output.name: output.dtype for output in plan.outputs}
    outputs = {
        name: secrets[name] if name in secrets else np.asarray(values[name]).astype(types[name])
        for name in selection.opened
    }
    left = {o.name: Kept(handle, o.name, o.shape, o.dtype, o.closed) for o in plan.kept}
    outcome = Outcome(outputs, reports, seconds, setup_seconds, left, receipt)
    if plan.verdict is not None and secrets[plan.verdict.name].any():
        raise UnreliableError(outcome=outcome)
    return outcome


def described(arrays: Mapping[str, np.ndarray]) -> str:
    """Arrays by name, type and shape, without a value."""
    return ", ".join(f"{name} {array.dtype.name} {shape(array.shape)}" for name, array in arrays.items())


def numbers(array: np.ndarray) -> str:
    """The elements of a small array, for a person."""
    return np.array2string(array, precision=4, suppress_small=True, separator=", ", threshold=SMALL)


def _values(array: np.ndarray) -> str:
    return numbers(array) if array.size <= SMALL else ""
