"""The cost of a run, as numbers and as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.roles.client.client import Outcome


def figures(outcome: Outcome) -> dict[str, Any]:
    """Time, bytes and rounds of a run, as the three parties report them."""
    return {
        "seconds": outcome.seconds,
        "setup_seconds": outcome.setup_seconds,
        "bytes_sent": [report.bytes_sent for report in outcome.reports],
        "rounds": max(report.rounds for report in outcome.reports),
    }


def cost_line(taken: dict[str, Any]) -> str:
    """`figures` in one line."""
    return (
        f"{screen.duration(taken['seconds'])} online after {screen.duration(taken['setup_seconds'])} of"
        f" planning and sharing, {screen.size(sum(taken['bytes_sent']))} sent by all three servers,"
        f" {taken['rounds']:,} rounds"
    )
