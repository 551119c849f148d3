"""The cost of a run, as numbers for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxpuma.roles.client.client import Outcome


def figures(outcome: Outcome) -> dict[str, Any]:
    """Time, bytes and rounds of a run, as the three parties report them."""
    return {
        "seconds": outcome.seconds,
        "setup_seconds": outcome.setup_seconds,
        "bytes_sent": [report.bytes_sent for report in outcome.reports],
        "rounds": outcome.rounds,
    }
