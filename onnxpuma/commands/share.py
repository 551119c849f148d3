"""share: the model owner's command. After it nobody needs the ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import options, screen


def share(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False)],
    public: options.Public = [],  # noqa: B006  (typer makes a new one)
    secret: options.Secret = [],  # noqa: B006
    public_input: options.PublicInput = [],  # noqa: B006
    secret_input: options.SecretInput = [],  # noqa: B006
) -> None:
    """Split a model's weights into three files, one for each server; any one alone is noise."""
    from onnxpuma.roles.owner import share_model

    with screen.progress(f"sharing {model.name}") as advance:
        blueprint = share_model(
            model,
            out,
            public=public,
            secret=secret,
            public_inputs=public_input,
            secret_inputs=secret_input,
            progress=advance,
        )
    rows = [
        (screen.plain(path.name), screen.size(path.stat().st_size), _READERS.get(path.name, ""))
        for path in sorted(out.iterdir())
        if path.name in _READERS
    ]
    screen.table(("file", "size", "for"), rows, numbers=(1,))
    hidden = ", ".join(name for name, spec in blueprint.inputs.items() if spec.secret) or "none"
    shown = ", ".join(blueprint.public_inputs) or "none"
    screen.say(f"\n{len(blueprint.weights)} arrays of weights are secret; digest {blueprint.digest[:16]}")
    screen.say(f"secret inputs: {screen.plain(hidden)}; public inputs: {screen.plain(shown)}")
    screen.note(
        f"Give server I skeleton.onnx, policy.json and partyI.safetensors from {out}, and no other part."
    )


_READERS = {
    "skeleton.onnx": "all three servers",
    "policy.json": "all three servers",
    "party0.safetensors": "server 0 alone",
    "party1.safetensors": "server 1 alone",
    "party2.safetensors": "server 2 alone",
}
