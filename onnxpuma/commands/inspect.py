"""inspect: what a model consists of, which parts stay secret, and what a run will cost on a given network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxpuma.commands import arrays, disclosed, noise, options, proved, screen, stored, totals

if TYPE_CHECKING:
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.examine.report import ModelReport

_SHOWN = {"weights": "once"}  # secret, and computed in the first run alone


def inspect(
    model: options.Models,
    dim: options.Dimensions = [],  # noqa: B006  (typer makes a new one)
    bandwidth: options.Bandwidth = options.USUAL_BANDWIDTH,
    latency: options.Latency = options.USUAL_LATENCY,
    cores: options.Cores = 0,
    memory: options.Memory = None,
    public: options.Public = [],  # noqa: B006
    secret: options.Secret = [],  # noqa: B006
    public_input: options.PublicInput = [],  # noqa: B006
    secret_input: options.SecretInput = [],  # noqa: B006
    hide: options.Hide = [],  # noqa: B006
    keep_only: options.KeepOnly = [],  # noqa: B006
    declared: options.Ranges = [],  # noqa: B006
    ring: options.Rings = [],  # noqa: B006
    summary: Annotated[
        bool, typer.Option("--summary", help="Leave out the nodes, the constants and the rings.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page for a browser: where time, bytes and rounds go, by layer.",
            show_default=False,
        ),
    ] = None,
    json: options.AsJson = False,
) -> None:
    """List every node: whether it is supported, what is secret, its rounds, bytes and time."""
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.roles.owner.price import priced, public_part
    from onnxpuma.roles.request.network import network_of

    if html is not None:
        arrays.check_writable(html)

    network = network_of(options.read_network(bandwidth, latency))
    sizes, allowed = options.read_sizes(dim), options.read_memory(memory)
    policy = Policy(
        public=public,
        secret=secret,
        public_inputs=public_input,
        secret_inputs=secret_input,
        hide=hide,
        keep_only=keep_only,
        ranges=options.read_ranges(declared),
        **options.read_rings(ring),
    )
    with screen.progress(f"reading {model.name}"):
        shared, left_out = public_part(model, policy, sizes)
        screen.note_left_out(left_out)
        blueprints = shared.graphs
        place = shared.residence(allowed)
        price = priced(str(model), shared, sizes, network, cores, place if allowed else None)
        found = price.graphs
    if html is not None:
        html.write_text(price.html(), encoding="utf-8")
    several = len(found) > 1
    if json:
        reports = {
            name: {
                **each.as_dict(),
                "listed": disclosed.entries(blueprints[name]),
                **noise.entries(blueprints[name]),
            }
            for name, each in found.items()
        }
        screen.say_json(
            {
                "model": str(model),
                "assumed": price.assumed,
                **({"graphs": reports} if several else next(iter(reports.values()))),
                **({"residence": asdict(place)} if allowed else {}),
            }
        )
    else:
        if several:
            _show_graphs(found)
        for name, each in found.items():
            if several:
                screen.say(f"\n[bold]{screen.plain(name)}[/bold]\n")
            _show(each, blueprints[name], summary)
        _show_assumed(price.assumed)
        if html is not None:
            screen.say(f"\nWrote {screen.plain(html)}.")
    if any(each.refused for each in found.values()):
        raise _unsupported(found)


def _show_graphs(found: Mapping[str, ModelReport]) -> None:
    """Print one line per graph: its inputs and its cost."""
    rows = [
        (
            screen.plain(name),
            screen.listing(list(each.inputs), 3),
            len(each.nodes),
            *_costs(each.rounds, each.bytes, each.seconds),
        )
        for name, each in found.items()
    ]
    screen.table(("graph", "inputs", "nodes", "rounds", "bytes", "network"), rows, numbers=(2, 3, 4, 5))


def _show(found: ModelReport, blueprint: Blueprint, summary: bool) -> None:
    _show_borders(found)
    if not summary:
        _show_nodes(found)
    _show_operators(found)
    _show_refused(found)
    if not summary:
        _show_constants(found)
        screen.say()
        disclosed.show({"": blueprint})
        disclosed.show_inputs({"": blueprint})
    if found.recognised and not summary:
        listing = ", ".join(f"{screen.plain(name)} ({count})" for name, count in found.recognised.items())
        screen.say(f"\n[bold]Recognised[/bold]  {listing}")
    noise.show({"": blueprint})
    totals.show(found)
    if not summary:
        stored.show(found.stored)
    if found.ranges is not None and not summary:
        proved.show(found.ranges)


def _show_borders(found: ModelReport) -> None:
    """Print inputs and outputs, with those derived beyond the export, and those that are never opened."""
    rows = []
    for kind, values in (("input", found.inputs), ("output", found.outputs)):
        for name, value in values.items():
            who = "secret" if value["secret"] else "public"
            notes = [f"ids below {value['vocabulary']}"] if value.get("vocabulary") else []
            notes += ["may be omitted"] if value.get("optional") else []
            notes += ["kept values only"] if value.get("sources") else []
            notes += ["{:g} to {:g}".format(*value["range"])] if value.get("range") else []
            note = ", ".join(notes)
            rows.append((kind, screen.plain(name), value["dtype"], screen.shape(value["shape"]), who, note))
    for name, value in found.derived.items():
        shape = screen.shape(value["shape"])
        rows.append(("output", screen.plain(name), value["dtype"], shape, "secret", "derived, on request"))
    rows += [("output", screen.plain(name), "", "", "nobody", "kept, not opened") for name in found.closed]
    rows += [("output", screen.plain(name), "", "", "nobody", "hidden") for name in found.hidden]
    screen.table(("", "name", "type", "shape", "seen", ""), rows)
    screen.say()


def _show_nodes(found: ModelReport) -> None:
    rows = []
    for node in found.nodes:
        rows.append(
            (
                screen.plain(node.operator),
                screen.shape(node.shape) if node.shape is not None else "",
                "[bold red]refused[/bold red]" if node.refused else _SHOWN.get(node.seen, node.seen),
                node.form,
                *_costs(node.rounds, node.bytes, node.seconds),
                screen.plain(node.name),
            )
        )
    screen.table(
        ("operator", "shape", "seen", "left as", "rounds", "bytes", "network", "node"),
        rows,
        numbers=(4, 5, 6),
        narrowest={0: 14, 1: 11, 7: 17},
        omitted=(3,),
    )
    screen.say()


def _show_operators(found: ModelReport) -> None:
    screen.say("By operator; bytes are those of all three servers, and each node waits for the one before:")
    screen.table(
        ("operator", "nodes", "rounds", "bytes", "network"),
        [
            (screen.plain(part.name), part.nodes, *_costs(part.rounds, part.bytes, part.seconds))
            for part in found.operators
        ],
        numbers=(1, 2, 3, 4),
    )


def _show_refused(found: ModelReport) -> None:
    if found.refused:
        screen.say("\n[bold]Refused[/bold]")
        for node in found.refused:
            screen.say(
                f"  {screen.plain(node.name)} ({screen.plain(node.operator)}): {screen.plain(node.refused)}"
            )


def _show_assumed(assumed: Mapping[str, int]) -> None:
    if assumed:
        listing = ", ".join(f"{screen.plain(name)}={size}" for name, size in assumed.items())
        screen.say(f"\n[bold]Sizes assumed[/bold]  {listing}; --dim NAME=SIZE sets another")


def _costs(rounds: int, sent: int, seconds: float) -> tuple[str, str, str]:
    return (f"{rounds:,}", screen.size(sent), screen.duration(seconds)) if rounds else ("", "", "")


def _show_constants(found: ModelReport) -> None:
    hidden = [c for c in found.constants if c.secret]
    by_reason: dict[str, list[str]] = {}
    for constant in found.constants:
        if not constant.secret:
            by_reason.setdefault(constant.reason, []).append(constant.name)
    screen.say(f"\n[bold]Secret weights[/bold]  {len(hidden)}")
    screen.say("[bold]Public constants[/bold]  part of the architecture; --secret PATTERN keeps one secret")
    rows = []
    for reason, names in by_reason.items():
        rows.append((f"  {screen.plain(reason)}", len(names), screen.listing(names)))
    screen.table(("  why", "number", "names"), rows, numbers=(1,))


def _unsupported(found: Mapping[str, ModelReport]) -> Exception:
    from onnxpuma.errors import UnsupportedModelError

    refused = [
        (name if len(found) > 1 else "", node) for name, each in found.items() for node in each.refused
    ]
    count = len(refused)
    return UnsupportedModelError(
        f"{count} node{'s' if count > 1 else ''} of this model cannot run on shares: "
        + ", ".join(f"{of and f'{of}: '}{node.name} ({node.operator})" for of, node in refused),
        "the list under Refused says why; docs/operators.md lists what is supported",
    )
