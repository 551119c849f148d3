"""validate --per-node: the error of every node, and the first node whose secure result departs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.check.trace import NodeError, NodeTrace, RangeUse

_HINT = (
    "feed it numbers inside its range, or share the model with --calibrate and inputs like this one;"
    " docs/protocols.md says more"
)


def show(found: NodeTrace) -> None:
    """Print a table of all nodes, and the verdict below it."""
    rows = [
        (
            screen.plain(node.node),
            node.operator,
            screen.shape(node.shape),
            f"{node.magnitude:.3g}",
            f"{node.error:.2g}",
            f"{node.own_error:.2g}" + (" [bold red]departs[/bold red]" if node.departs else ""),
            screen.plain("; ".join(map(_use, node.ranges))),
        )
        for node in found.nodes
    ]
    columns = ("node", "operator", "shape", "largest", "error", "its own", "range")
    screen.table(columns, rows, numbers=(3, 4, 5))
    screen.say()
    for name, error in found.outputs.items():
        screen.say(f"output {screen.plain(name)}: largest error {error:.2g}")
    first = found.first
    if first is None:
        screen.say(
            "\nNo node departs: on the operands it had, every node errs by what its operator declares."
        )
    else:
        screen.say(f"\n[bold]{screen.plain(verdict(first))}[/bold]")


def verdict(first: NodeError) -> str:
    """Which node departs, by how much, and why if one of its ranges tells."""
    text = (
        f"The first node that departs is {first.node} ({first.operator}): on the operands that it had on"
        f" shares, its result is wrong by {first.own_error:.3g} of {first.magnitude:.3g}."
    )
    if not first.outside:
        return f"{text} Its operands are within its ranges: this is a fault of onnxpuma, not of the model."
    why = "; ".join(f"{use.what} is {use.value:.4g}, and must be {use.bounds}" for use in first.outside)
    return f"{text} Its operands left its range: {why}. What to do: {_HINT}."


def _use(use: RangeUse) -> str:
    return f"{use.what} {use.value:.3g} ({'' if use.inside else 'must be '}{use.bounds})"
