"""keygen and init: the keys of those who take part, and the cluster.toml that lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import screen


def keygen(
    name: Annotated[
        Path,
        typer.Argument(help="Writes NAME.secret, NAME.public and NAME.signing.", show_default=False),
    ],
) -> None:
    """Generate a key pair, and a key that signs receipts. Each server and each client generates its own,
    on its own machine.
    """
    from onnxpuma.transport.signing import keygen_with_signing

    pair, signing = keygen_with_signing(name)
    screen.say(f"{screen.plain(name)}.secret  stays on this machine, readable by you alone")
    screen.say(f"{screen.plain(name)}.public  {screen.plain(pair.public)}")
    screen.say(f"{screen.plain(name)}.signing of a server signs receipts: {screen.plain(signing.public)}")


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("cluster.toml"),
) -> None:
    """Write a commented cluster.toml for three servers, to be filled in."""
    from onnxpuma.cluster_template import write_cluster_template

    write_cluster_template(path)
    screen.say(f"Wrote {screen.plain(path)}.")
    screen.note(
        "Fill in the three hosts and the public keys, then copy the same file to the servers and the clients."
    )
