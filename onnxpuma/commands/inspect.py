"""inspect: what a model consists of, which parts stay secret, and what a run will cost on a given network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onnxpuma.commands import disclosed, noise, options, proved, screen, stored, totals
from onnxpuma.errors import ConfigError

if TYPE_CHECKING:
    from onnxpuma.mpc.cost import Network
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.examine.report import ModelReport, NodeEntry
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.plan.weights.residence import Residence
    from onnxpuma.roles.shared.model import SharedModel

_SHOWN = {"weights": "secret, once"}


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
    json: options.AsJson = False,
) -> None:
    """List every node: whether it is supported, what is secret, and its predicted rounds, bytes and time."""
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.roles.request.network import network_of

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
        shared = _shared(model, policy, sizes)
        blueprints = shared.graphs
        place = shared.residence(allowed)
        found = _report(shared, sizes, network, cores, place if allowed else None)
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
            _show(each, blueprints[name])
    if any(each.refused for each in found.values()):
        raise _unsupported(found)


def _shared(model: Path, policy: Policy, sizes: Mapping[str, int]) -> SharedModel:
    """The public part of an ONNX file, of a folder of files that form one model, or of a shared model."""
    from onnxpuma.graph.folder import ONLY_GRAPH, find
    from onnxpuma.roles.owner.reading import Reading
    from onnxpuma.roles.shared.model import SharedModel, is_shared

    if is_shared(model):
        if policy.patterns or policy.ranges or policy.rings or policy.ring != "auto":
            raise ConfigError(
                "a shared model's policy is settled: patterns and ranges have no effect",
                "pass them to `onnxpuma share`",
            )
        return SharedModel.read(model)
    found = find(model)
    screen.note_left_out(found.ignored)
    blueprints = Reading(found.sources, policy, sizes=sizes).blueprints()
    if list(blueprints) == [ONLY_GRAPH]:
        return SharedModel.of(blueprints[ONLY_GRAPH])
    # `share` stores an array once that several graphs have; here each graph counts its own.
    own = {graph: {name: f"{graph}/{name}" for name in each.weights} for graph, each in blueprints.items()}
    return SharedModel(blueprints, own)


def _report(
    shared: SharedModel, sizes: Mapping[str, int], network: Network, cores: int, place: Residence | None
) -> dict[str, ModelReport]:
    """A report for each graph, at those of the sizes that its symbols name. place: where weights stay; None:
    all of them as words."""
    from onnxpuma.plan.examine.example import draw_inputs, symbols
    from onnxpuma.plan.examine.report import report
    from onnxpuma.plan.examine.support import fitting_shapes

    known = {name: symbols(blueprint) for name, blueprint in shared.graphs.items()}
    reports = {}
    for name, blueprint in shared.graphs.items():
        elsewhere = {symbol for other in known.values() for symbol in other} - known[name].keys()
        own = {symbol: size for symbol, size in sizes.items() if symbol not in elsewhere}
        shapes = fitting_shapes(blueprint, own)
        drawn = draw_inputs(blueprint, shapes)
        public = {entry: drawn[entry] for entry in blueprint.public_inputs}
        held = None if place is None else place.memory
        away = [] if place is None else [w for w, a in shared.stored[name].items() if a in place.streamed]
        reports[name] = report(blueprint, shapes, public, network, cores, held, away)
    return reports


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


def _show(found: ModelReport, blueprint: Blueprint) -> None:
    _show_borders(found)
    _show_nodes(found)
    _show_constants(found)
    screen.say()
    disclosed.show({"": blueprint})
    disclosed.show_inputs({"": blueprint})
    if found.recognised:
        listing = ", ".join(f"{screen.plain(name)} ({count})" for name, count in found.recognised.items())
        screen.say(f"\n[bold]Recognised[/bold]  {listing}")
    noise.show({"": blueprint})
    totals.show(found)
    stored.show(found.stored)
    if found.ranges is not None:
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
    )
    by_operator: dict[str, list[NodeEntry]] = {}
    for node in found.nodes:
        by_operator.setdefault(node.operator, []).append(node)
    sums = [
        (
            name,
            len(nodes),
            sum(n.rounds for n in nodes),
            sum(n.bytes for n in nodes),
            sum(n.seconds for n in nodes),
        )
        for name, nodes in by_operator.items()
    ]
    screen.say()
    screen.table(
        ("operator", "nodes", "rounds", "bytes", "network"),
        [
            (screen.plain(name), count, *_costs(rounds, sent, seconds))
            for name, count, rounds, sent, seconds in sorted(sums, key=lambda row: -row[3])
        ],
        numbers=(1, 2, 3, 4),
    )
    if found.refused:
        screen.say("\n[bold]Refused[/bold]")
        for node in found.refused:
            screen.say(
                f"  {screen.plain(node.name)} ({screen.plain(node.operator)}): {screen.plain(node.refused)}"
            )


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
