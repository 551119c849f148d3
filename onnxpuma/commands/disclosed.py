"""The parts of a model that everybody will see, for people to read: equal lines merged, doubtful apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.weights.listing import PublicEntry

_NAMED = 3


def show(graphs: Mapping[str, Blueprint]) -> None:
    """Print the listed constants of each graph that has any."""
    for name, blueprint in graphs.items():
        listed = blueprint.public_listing()
        of = f" of {screen.plain(name)}" if len(graphs) > 1 else ""
        certain = [entry for entry in listed if not entry.doubtful]
        if certain:
            screen.say(f"[bold]Everybody will see{of}[/bold]")
            _show_lines(certain)
            screen.say()
        if len(listed) > len(certain):
            screen.say(f"[bold]Everybody would see{of}, and it may be trained[/bold]")
            _show_lines([entry for entry in listed if entry.doubtful])
            screen.say()


def entries(blueprint: Blueprint) -> list[dict[str, Any]]:
    """The listed constants for a program; numbers that JSON lacks become text."""
    return [
        {**asdict(entry), "preview": [v if isfinite(v) else str(v) for v in entry.preview]}
        for entry in blueprint.public_listing()
    ]


def show_inputs(graphs: Mapping[str, Blueprint]) -> None:
    """Print which inputs the servers see, and which of them a client has to name."""
    from onnxpuma.roles.owner.disclosure import inputs_to_name

    for name, blueprint in graphs.items():
        hidden = screen.listing([n for n, spec in blueprint.inputs.items() if spec.secret]) or "none"
        shown = screen.listing(blueprint.public_inputs) or "none"
        of = f"{screen.plain(name)}: " if len(graphs) > 1 else ""
        screen.say(f"{of}secret inputs: {hidden}; public inputs: {shown}")
        if blueprint.closed:
            screen.say(f"{of}kept and not opened: {screen.listing(blueprint.closed)}")
        if blueprint.resumed:
            taking = screen.listing(list(blueprint.resumed))
            screen.say(f"{of}inputs that take what is kept of these, and nothing else: {taking}")
        asked = inputs_to_name(blueprint)
        if asked:
            screen.say(
                f"{of}a client must consent before the servers see {screen.listing(asked)}:"
                f" with --public-input {screen.plain(asked[0])}, in Python with public_inputs=[...]"
            )


def _show_lines(entries: Sequence[PublicEntry]) -> None:
    """Print one line for all entries that differ only in name."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for entry in entries:
        first = ", ".join(_number(value) for value in entry.preview)
        rest = " ..." if prod(entry.shape) > len(entry.preview) else ""
        key = (entry.reason, screen.shape(entry.shape), entry.dtype, first + rest)
        alike.setdefault(key, []).append(entry.name)
    rows = [
        (
            f"  {screen.plain(why)}",
            str(shape),
            str(dtype),
            str(first),
            len(names),
            screen.listing(names, _NAMED),
        )
        for (why, shape, dtype, first), names in alike.items()
    ]
    screen.table(("  why", "shape", "type", "begins with", "number", "names"), rows, numbers=(4,))


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
