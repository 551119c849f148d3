"""canary make: requests whose answers are known, by which clients find a server that cheats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxpuma.commands import arrays, options, screen

if TYPE_CHECKING:
    from onnxpuma.roles.client.mixing import Mixing

app = typer.Typer(help="Requests with known answers, by which clients find a server that cheats.")

File = Annotated[
    Path | None,
    typer.Option(
        "--canaries",
        metavar="FILE",
        help="Mix canaries from this file, which the model's owner made, among the requests.",
        show_default=False,
    ),
]
Rate = Annotated[
    float, typer.Option("--rate", min=0.0, max=1.0, help="Canaries for each request; 0 only looks so.")
]
AuditAll = Annotated[
    bool,
    typer.Option("--audit-all", help="Store right answers to canaries for an audit as well."),
]
Audits = Annotated[Path, typer.Option("--audits", metavar="DIR", help="Where to store what an audit needs.")]


@app.callback()
def _group() -> None:
    """Requests with known answers, by which clients find a server that cheats."""


@app.command()
def make(
    folder: Annotated[
        Path, typer.Argument(metavar="SHARED", help="The folder that share wrote.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The file to write.", show_default=False)
    ],
    count: Annotated[int, typer.Option("--count", min=1, help="How many canaries.")] = 20,
    inputs: Annotated[
        list[Path],
        typer.Option(
            "--inputs",
            metavar="X.npz",
            help="Inputs like those of clients, a canary a file; by default they are drawn. May be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  (typer makes a new one)
    dim: options.Dimensions = [],  # noqa: B006
    graph: arrays.GraphName = None,
    output: arrays.Outputs = [],  # noqa: B006
    bandwidth: options.Bandwidth = options.USUAL_BANDWIDTH,
    latency: options.Latency = options.USUAL_LATENCY,
) -> None:
    """Make canaries, at the model's owner: inputs, and the outputs of honest servers, computed in memory.

    Clients mix them among their requests. No server may see the file, nor anybody who could give it to one.
    """
    from onnxpuma.roles.local.canaries import make_canaries
    from onnxpuma.roles.request.network import network_of
    from onnxpuma.roles.shared.model import SharedModel

    arrays.check_writable(out)
    model = SharedModel.read(folder)
    blueprint = model.graph(graph)
    given = [arrays.named(arrays.read_given(path), blueprint, path) for path in inputs] or None
    with screen.progress("computing canaries") as advance:
        made = make_canaries(
            folder,
            count if given is None else len(given),
            feeds=given,
            sizes=options.read_sizes(dim),
            graph=graph,
            output_names=output or None,
            network=network_of(options.read_network(bandwidth, latency)),
            progress=advance,
        )
    made.write(out)
    screen.table(
        ("output", "tolerance"),
        [(screen.plain(name), f"{bound:.3g}") for name, bound in made.tolerances.items()],
    )
    screen.say(f"\nwrote {screen.plain(out)}: {len(made.every)} canaries of model {made.digest[:16]}")
    screen.note("give the file to clients: infer --canaries, gateway --canaries. No server may see it")


def read_mixing(
    file: Path | None, rate: float, audit_all: bool, audits: Path, spread: bool = False
) -> Mixing | None:
    """How a client mixes the canaries of this file; None without one. Raises ConfigError, InputError."""
    from onnxpuma.errors import ConfigError
    from onnxpuma.roles.client.mixing import Mixing
    from onnxpuma.roles.request.canary_file import Canaries

    if file is None:
        return None
    if not audits.is_dir():
        raise ConfigError(f"there is no folder {audits}", "make it, or name another with --audits")
    audited = 1.0 if audit_all else 0.0
    return Mixing(Canaries.read(file), rate, audited=audited, folder=audits, spread=spread)
