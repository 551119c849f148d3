"""The rings in which weights are stored, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxpuma.plan.examine.stored import StoredEntry

_LISTED = 16


def show(found: Sequence[StoredEntry]) -> None:
    """Print each kind of weights: bits, the bound of its products, whether that is proved, bytes saved."""
    if not found:
        return
    total, saved = sum(entry.bytes for entry in found), sum(entry.saved for entry in found)
    screen.say(
        f"\n[bold]Stored[/bold]  {screen.size(total)} a component, {screen.size(saved)} less than in 64 bits"
    )
    rows = [
        (
            screen.plain(entry.names),
            entry.weights,
            entry.bits,
            entry.fraction,
            entry.reads or "",
            f"{entry.bound:.4g}" if entry.bound is not None else "",
            entry.state,
            screen.size(entry.bytes),
            screen.size(entry.saved) if entry.saved else "",
        )
        for entry in found[:_LISTED]
    ]
    heads = ("weights", "number", "bits", "below the point", "read at", "results reach", "", "bytes", "saved")
    screen.table(heads, rows, numbers=(1, 2, 3, 4, 5, 7, 8), narrowest={0: 10}, omitted=(3, 4))
    if len(found) > _LISTED:
        screen.say(f"  and {len(found) - _LISTED} more kinds: --json lists all")
