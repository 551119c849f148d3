"""How many readings of a model are proved to be in range for every input, and how the others are covered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnxpuma.commands import screen
from onnxpuma.errors import OnnxpumaError

if TYPE_CHECKING:
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.examine.proofs import RangeEntry, RangeReport

_LISTED = 12
_WORDS = {
    "checked": "checked in every run",
    "calibrated": "as the samples showed",
    "hoped": "[bold red]hoped[/bold red]",
}


def show(found: RangeReport) -> None:
    """Print how many are proved, and each kind of the others with its bound and its range."""
    screen.say(f"\n[bold]Ranges[/bold]  {_counted(found)}")
    if not found.unproved:
        return
    kinds: dict[tuple[str, str, str, str], list[RangeEntry]] = {}
    for entry in found.unproved:
        kinds.setdefault((entry.operator, entry.quantity, entry.range, entry.state), []).append(entry)
    ordered = sorted(kinds.items(), key=lambda kind: (kind[0][3] != "hoped", -len(kind[1])))
    rows = []
    for (operator, quantity, bounds, state), entries in ordered[:_LISTED]:
        known = [entry.stays for entry in entries]
        most = "unknown" if None in known else f"{max(s for s in known if s is not None):.4g}"
        names = screen.plain(entries[0].node) + (f" and {len(entries) - 1} more" if len(entries) > 1 else "")
        rows.append((screen.plain(operator), quantity, most, bounds, _WORDS[state], names))
    heads = ("operator", "quantity", "may reach", "must be", "", "node")
    screen.table(heads, rows, numbers=(2,), narrowest={0: 12, 5: 12})
    if len(ordered) > _LISTED:
        screen.say(f"  and {len(ordered) - _LISTED} more kinds: --json lists all")
    _advise(found)


def summarise(graphs: Mapping[str, Blueprint], sizes: Mapping[str, int]) -> None:
    """Print one line per graph, at the sizes of its example, and a remedy where not all is proved."""
    from onnxpuma.plan.examine.example import draw_inputs, symbols
    from onnxpuma.plan.examine.proofs import examined
    from onnxpuma.plan.examine.support import fitting_shapes

    for name, blueprint in graphs.items():
        known = symbols(blueprint)
        try:
            shapes = fitting_shapes(blueprint, {s: size for s, size in sizes.items() if s in known})
            drawn = draw_inputs(blueprint, shapes)
            found = examined(blueprint, shapes, {n: drawn[n] for n in blueprint.public_inputs})
        except OnnxpumaError:  # the example runs at no size; each request will tell why
            continue
        of = f"{screen.plain(name)}: " if len(graphs) > 1 else ""
        screen.say(f"{of}{_counted(found)}")
        _advise(found)
        if found.states.get("hoped"):
            screen.say("  onnxpuma inspect lists the hoped ones, and what they may reach")


def _counted(found: RangeReport) -> str:
    if not found.unproved:
        return f"all {found.readings} readings are proved to be in range, for every input"
    rest = ", ".join(
        f"{found.states[state]} {words}" for state, words in _WORDS.items() if found.states.get(state)
    )
    return f"{found.proved} of {found.readings} readings are proved to be in range, for every input; {rest}"


def _advise(found: RangeReport) -> None:
    if found.undeclared:
        names = screen.listing([screen.plain(name) for name in found.undeclared])
        example = screen.plain(found.undeclared[0])
        screen.say(f"  {found.with_ranges} would be if {names} were small: --range {example}=LOW:HIGH")
