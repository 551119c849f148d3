"""What a model costs on a network, for a person: the totals, and the ways that its operators take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.plan.examine.report import ModelReport


def show(found: ModelReport) -> None:
    """Print rounds, bytes and the time of a run; the check and memory; and the ways of operators."""
    network, time = found.network, found.predicted
    rate, latency = screen.bits(network.bandwidth), screen.duration(network.latency)
    screen.say(
        f"\n[bold]Total[/bold]  {found.rounds:,} rounds, {screen.size(found.bytes)} sent by all parties;"
        f" about {screen.duration(time.whole)} on a network of {rate}/s a party and {latency} latency"
    )
    cores = f"{time.cores} core{'s' if time.cores > 1 else ''}"
    screen.say(
        f"       links {screen.duration(time.links)}; computing {screen.duration(time.computing)} on three"
        f" machines like this one with {cores} each"
    )
    if found.lanes > 1:
        screen.say(
            f"       rows in {found.lanes} lanes: the words of one travel while servers compute another"
        )
    if found.check is None:
        screen.say("       no range check: a value that leaves its range during a run goes unnoticed")
    elif found.check.values:
        screen.say(
            f"       of which {found.check.rounds} rounds and {screen.size(found.check.bytes)} are the range"
            f" check of {found.check.values} values"
        )
    screen.say(
        f"       about {screen.size(found.memory.whole)} of memory at each server, of which"
        f" {screen.size(found.memory.weights)} are its shares of the weights"
    )
    if found.memory.streamed:
        each = screen.size(found.memory.streamed)
        screen.say(
            f"       weights that do not fit: in a run servers 1 and 2 read {each} and make {each} from keys,"
            f" server 0 makes {screen.size(2 * found.memory.streamed)} from keys"
        )
    if found.refused:
        screen.say("       (without the refused nodes and the nodes that depend on them)")
    _show_choices(found)


def _show_choices(found: ModelReport) -> None:
    """Print the ways of each operator that has several, and the whole model's cost with each."""
    if not found.choices:
        return
    rows = []
    for choice in found.choices:
        for way in choice.ways:
            whole = (
                f"{way.model_rounds:,}",
                screen.size(way.model_bytes),
                screen.duration(way.model_seconds),
            )
            own = (f"{way.rounds:,}", screen.size(way.bytes)) if way.steps else ("", "")
            rows.append(
                (screen.plain(choice.operator), screen.plain(way.name), way.steps or "", *own, *whole)
            )
    screen.say(
        "\n[bold]Ways[/bold]  chosen for this network; the last columns are the model with that way alone"
    )
    screen.table(
        ("operator", "way", "steps", "rounds", "bytes", "rounds", "bytes", "network"),
        rows,
        numbers=(2, 3, 4, 5, 6, 7),
        narrowest={0: 10, 1: 22},
        omitted=(4, 3),
    )
