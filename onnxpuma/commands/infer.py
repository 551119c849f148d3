"""infer: the client's command. Secret inputs leave this machine as shares; it alone opens the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxpuma.commands import arrays, options, screen
from onnxpuma.commands.figures import figures

if TYPE_CHECKING:
    from onnxpuma.roles.client.client import Outcome


def infer(
    inputs: Annotated[
        Path,
        typer.Option(
            "--inputs",
            metavar="X.npz",
            help="One array per input; for a model of one input also its array alone, a .npy file.",
            show_default=False,
        ),
    ],
    key: options.Key,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="Y.npz",
            help="Where to write the outputs; without it, small ones are printed.",
            show_default=False,
        ),
    ] = None,
    cluster: options.Cluster = Path("cluster.toml"),
    graph: Annotated[
        str | None,
        typer.Option(
            "--graph", metavar="NAME", help="Which graph to run, if there are several.", show_default=False
        ),
    ] = None,
    output: Annotated[
        list[str],
        typer.Option(
            "--output",
            metavar="NAME",
            help="An output to open, such as next_token; by default, all that the model was exported with.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  (typer makes a new one)
    model: options.ModelName = "",
    public_input: options.ShownInput = [],  # noqa: B006
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            metavar="R.json",
            help="Where to write what the servers signed about this run; `verify` checks it.",
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
    json: options.AsJson = False,
) -> None:
    """Run inputs through the three servers; only you can open the outputs."""
    from onnxpuma.config import read_cluster
    from onnxpuma.errors import ConfigError, UnreliableError
    from onnxpuma.observe import answers_left
    from onnxpuma.roles.client.client import Client
    from onnxpuma.roles.client.outcome import SMALL, Outcome, numbers
    from onnxpuma.transport.curve import read_secret_key

    config = read_cluster(cluster)
    pair = read_secret_key(key)
    if receipt is not None and config.signers is None:
        raise ConfigError(
            "these servers sign no receipts",
            f"{cluster} lists no signing keys, or turns receipts off: ask the servers' owners",
        )
    given = arrays.read_given(inputs)
    for place in (out, receipt):
        if place is not None:
            arrays.check_writable(place)
    asked = Client(config, pair, public_inputs=public_input, model_name=model)
    with screen.progress("computing on shares") as advance, asked as client:
        feed = arrays.named(given, client.model.graph(graph), inputs)
        try:
            outcome = client.run(feed, output or None, progress=advance, graph=graph)
        except UnreliableError as error:
            if keep_unreliable and out is not None and isinstance(error.outcome, Outcome):
                arrays.write_arrays(out, error.outcome.outputs)
                _write_receipt(error.outcome, receipt)
            raise
    _write_receipt(outcome, receipt)
    if out is not None:
        arrays.write_arrays(out, outcome.outputs)
    left = answers_left(outcome.reports)
    if json:
        values = {} if out is not None else {"outputs": {n: v.tolist() for n, v in outcome.outputs.items()}}
        budget = {} if left is None else {"answers_left": left}
        screen.say_json({"out": None if out is None else str(out), **values, **figures(outcome), **budget})
        return
    rows = [(screen.plain(n), v.dtype.name, screen.shape(v.shape)) for n, v in outcome.outputs.items()]
    screen.table(("output", "type", "shape"), rows)
    for name, array in outcome.outputs.items():
        if array.size <= SMALL:
            screen.say(f"\n[bold]{screen.plain(name)}[/bold]\n{screen.plain(numbers(array))}")
        elif out is None:
            screen.note(f"{screen.plain(name)} has {array.size:,} numbers: --out FILE writes them")
    if left is not None:
        screen.say(f"\nthe model's owner adds noise to answers; of your budget {left:,} are left")
    screen.say(f"\n{f'wrote {screen.plain(out)}; ' if out is not None else ''}{outcome.cost}")


def _write_receipt(outcome: Outcome, path: Path | None) -> None:
    if path is not None and outcome.receipt is not None:
        outcome.receipt.write(path)
