"""verify: what three servers signed about one run, and whether it still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import options, screen


def verify(
    receipt: Annotated[Path, typer.Argument(help="The file from `infer --receipt`.", show_default=False)],
    cluster: options.Signing = None,
    json: options.AsJson = False,
) -> None:
    """Check the receipt of a run: signatures, and that the three servers signed the same run."""
    from onnxpuma.roles.request.receipt import Receipt

    signers = options.read_signers(cluster)
    read = Receipt.read(receipt)
    read.check(signers)
    first = read.servers[0].statement
    if json:
        rows = [{"key": signed.key, **signed.statement} for signed in read.servers]
        screen.say_json({"keys_checked": signers is not None, "servers": rows})
        return
    said = [signed.statement for signed in read.servers]
    screen.table(
        ("server", "name", "began", "ended", "input", "output"),
        [
            (str(party), screen.plain(s["name"]), s["began"], s["ended"], s["inputs"][:16], s["outputs"][:16])
            for party, s in enumerate(said)
        ],
    )
    for what in ("model", "plan", "request", "session"):
        screen.say(f"{what}: {screen.plain(first[what])}")
    versions = sorted({screen.plain(statement["version"]) for statement in said})
    screen.say(f"version: {', '.join(versions)}")
    screen.say("The three signatures are right, and the three servers signed the same run.")
    if signers is None:
        screen.note("Whose keys these are was not checked: give --cluster cluster.toml")
