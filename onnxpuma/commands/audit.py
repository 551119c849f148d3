"""audit: which server departed from the program, after a client found a wrong answer to a canary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxpuma.commands import options, screen

if TYPE_CHECKING:
    from onnxpuma.roles.audit.verdict import Verdict


def audit(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What a client stored about a canary.", show_default=False),
    ],
    shares: Annotated[
        Path,
        typer.Option(
            "--shares",
            metavar="DIR",
            help="The folder that share wrote, with the keys of all three servers and the words.",
            show_default=False,
        ),
    ],
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            metavar="OWNER.secret",
            help="Your .secret file from `keygen --owner`, with which the model was shared.",
            show_default=False,
        ),
    ],
    cluster: options.Signing = None,
    json: options.AsJson = False,
) -> None:
    """Find the server that departed from the program in a canary's session. For the model's owner, offline.

    It opens what the servers handed over, computes the session again for all three, and compares every
    message with what they signed. The first that differs convicts its sender, by its own signature.

    The exit status is 0 if all three followed the program, and 12 if one did not. An answer that is wrong
    although nobody departed comes from the canary: from other shares than those that the servers have, say.
    """
    from onnxpuma.roles.audit.judge import judge
    from onnxpuma.roles.audit.reading import read_case
    from onnxpuma.transport.sealing import OwnerKey

    owner = OwnerKey.read(key)
    signers = options.read_signers(cluster)
    rows = []
    for path in files:
        with screen.progress(f"auditing {path.name}"):
            case = read_case(path, shares, owner, signers)
            verdict = judge(case.evidence, case.plan, case.interpreters)
        rows.append({"file": str(path), **_entries(verdict)})
        if not json:
            _show(path, verdict)
    if json:
        screen.say_json({"keys_checked": signers is not None, "audits": rows})
    elif signers is None:
        screen.note("Whose keys these are was not checked: give --cluster cluster.toml")
    if any(row["servers"] for row in rows):
        raise typer.Exit(DEPARTED)


DEPARTED = 12  # the exit status of errors.CanaryError


def _show(path: Path, verdict: Verdict) -> None:
    screen.say(f"{screen.plain(path)}: {screen.plain(verdict.finding.value)}")
    screen.say(f"  {screen.plain(verdict)}")
    for signed in verdict.statements:
        said = signed.statement
        who = f"server {said['party']} ({screen.plain(said['name'])})"
        screen.say(f"  {who} signed at {said['ended']} with {signed.key}: {signed.at_end.hex()}")
    for told in verdict.testimonies:
        screen.say(f"  server {told.party} handed over, signed: {told.signature.hex()}")


def _entries(verdict: Verdict) -> dict[str, Any]:
    tag = verdict.tag
    return {
        "finding": verdict.finding.value,
        "servers": list(verdict.servers),
        "why": verdict.why,
        "way": None if verdict.way is None else list(verdict.way),
        "message": None if tag is None else {"step": tag.step, "round": tag.round, "label": tag.label},
        "receipts": [{"key": s.key, "ended": s.at_end.hex(), **s.statement} for s in verdict.statements],
        "testimonies": [
            {"party": told.party, "payload": told.payload.decode("ascii"), "signature": told.signature.hex()}
            for told in verdict.testimonies
        ],
    }
