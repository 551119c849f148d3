"""infer: the client's command. Secret inputs leave this machine as shares; it alone opens the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxpuma.commands import arrays, canary, options, screen
from onnxpuma.commands.figures import figures

if TYPE_CHECKING:
    from onnxpuma.roles.client.client import Outcome


def infer(
    inputs: Annotated[
        list[Path],
        typer.Option(
            "--inputs",
            metavar="X.npz",
            help="One array per input; for a model of one input also its array alone, a .npy file. May be"
            " repeated: a request for each.",
            show_default=False,
        ),
    ],
    key: options.Key,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="Y.npz",
            help="Where to write the outputs, for several --inputs a folder; without it, small ones are"
            " printed.",
            show_default=False,
        ),
    ] = None,
    cluster: options.Cluster = Path("cluster.toml"),
    graph: arrays.GraphName = None,
    output: arrays.Outputs = [],  # noqa: B006  (typer makes a new one)
    model: options.ModelName = "",
    public_input: options.ShownInput = [],  # noqa: B006
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            metavar="R.json",
            help="Where to write what the servers signed about this run, for several --inputs a folder;"
            " `verify` checks it.",
            show_default=False,
        ),
    ] = None,
    keep_unreliable: Annotated[
        bool,
        typer.Option(
            "--keep-unreliable",
            help="Write the outputs even if a value left its range; the exit status is still 9.",
        ),
    ] = False,
    canaries: canary.File = None,
    rate: canary.Rate = 0.05,
    audit_all: canary.AuditAll = False,
    audits: canary.Audits = Path(),
    json: options.AsJson = False,
) -> None:
    """Run inputs through the three servers; only you can open the outputs."""
    from onnxpuma.config import read_cluster
    from onnxpuma.errors import CanaryError, ConfigError, UnreliableError
    from onnxpuma.roles.client.client import Client
    from onnxpuma.roles.client.outcome import Outcome
    from onnxpuma.transport.curve import read_secret_key

    config = read_cluster(cluster)
    pair = read_secret_key(key)
    if receipt is not None and config.signers is None:
        raise ConfigError(
            "these servers sign no receipts",
            f"{cluster} lists no signing keys, or turns receipts off: ask the servers' owners",
        )
    given = [arrays.read_given(path) for path in inputs]
    outs = _places(out, inputs, ".npz")
    receipts = _places(receipt, inputs, ".json")
    mixing = canary.read_mixing(canaries, rate, audit_all, audits)
    asked = Client(config, pair, public_inputs=public_input, model_name=model, mixing=mixing)
    outcomes: list[Outcome] = []
    with screen.progress("computing on shares") as advance, asked as client:
        blueprint = client.model.graph(graph)
        for path, arrays_of, place, signed in zip(inputs, given, outs, receipts, strict=True):
            feed = arrays.named(arrays_of, blueprint, path)
            try:
                outcome = client.run(feed, output or None, progress=advance, graph=graph)
            except (UnreliableError, CanaryError) as error:
                if keep_unreliable and isinstance(error.outcome, Outcome):
                    _write(error.outcome, place, signed)
                raise
            _write(outcome, place, signed)
            outcomes.append(outcome)
    if json:
        rows = [_entries(outcome, place) for outcome, place in zip(outcomes, outs, strict=True)]
        screen.say_json({"requests": rows} if len(rows) > 1 else rows[0])
    else:
        for outcome, place in zip(outcomes, outs, strict=True):
            _show(outcome, place)
    if mixing is not None and not json:
        screen.note(f"{mixing.sent} canaries among {len(outcomes)} requests; their answers were right")
        for file in mixing.files:
            screen.note(f"stored {file} for the model's owner")


def _places(given: Path | None, inputs: Sequence[Path], suffix: str) -> list[Path | None]:
    """Where to write about each input: the place itself for one, files in it, named after them, for several.

    ConfigError for a place that cannot be written, and for two inputs of one name.
    """
    from onnxpuma.errors import ConfigError

    if given is None:
        return [None] * len(inputs)
    if len(inputs) == 1:
        arrays.check_writable(given)
        return [given]
    places: list[Path | None] = [given / f"{path.stem}{suffix}" for path in inputs]
    if len(set(places)) < len(places):
        raise ConfigError("two inputs have the same name", "rename one: outputs are named after them")
    try:
        given.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{given} is no folder: {error.strerror}", "several --inputs take a folder as --out and --receipt"
        ) from error
    for place in places:
        assert place is not None
        arrays.check_writable(place)
    return places


def _write(outcome: Outcome, out: Path | None, receipt: Path | None) -> None:
    if receipt is not None and outcome.receipt is not None:
        outcome.receipt.write(receipt)
    if out is not None:
        arrays.write_arrays(out, outcome.outputs)


def _entries(outcome: Outcome, out: Path | None) -> dict[str, Any]:
    from onnxpuma.observe import answers_left

    left = answers_left(outcome.reports)
    values = {} if out is not None else {"outputs": {n: v.tolist() for n, v in outcome.outputs.items()}}
    budget = {} if left is None else {"answers_left": left}
    return {"out": None if out is None else str(out), **values, **figures(outcome), **budget}


def _show(outcome: Outcome, out: Path | None) -> None:
    from onnxpuma.observe import answers_left
    from onnxpuma.roles.client.outcome import SMALL, numbers

    rows = [(screen.plain(n), v.dtype.name, screen.shape(v.shape)) for n, v in outcome.outputs.items()]
    screen.table(("output", "type", "shape"), rows)
    for name, array in outcome.outputs.items():
        if array.size <= SMALL:
            screen.say(f"\n[bold]{screen.plain(name)}[/bold]\n{screen.plain(numbers(array))}")
        elif out is None:
            screen.note(f"{screen.plain(name)} has {array.size:,} numbers: --out FILE writes them")
    left = answers_left(outcome.reports)
    if left is not None:
        screen.say(f"\nthe model's owner adds noise to answers; of your budget {left:,} are left")
    screen.say(f"\n{f'wrote {screen.plain(out)}; ' if out is not None else ''}{outcome.cost}")
