"""What a client has after a request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from onnxpuma.observe import RunReport
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.receipt import Receipt


@dataclass(frozen=True)
class Outcome:
    """The result of one request."""

    outputs: dict[str, np.ndarray]  # by name, in the order asked for, in the declared types
    reports: tuple[RunReport, ...] = field(repr=False)  # of the three servers
    # From the first byte sent to the last received, including time queued behind other clients; `reports`
    # give the time of computing alone.
    seconds: float
    setup_seconds: float  # planning and sharing, before `seconds` begin
    kept: dict[str, Kept] = field(default_factory=dict)  # handles of the outputs that stay, by name
    receipt: Receipt | None = field(default=None, repr=False)  # of the three servers, checked, if they sign
