"""share: the model owner's command. After it nobody needs the ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import options, screen


def share(
    model: options.Models,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False)],
    public: options.Public = [],  # noqa: B006  (typer makes a new one)
    secret: options.Secret = [],  # noqa: B006
    public_input: options.PublicInput = [],  # noqa: B006
    secret_input: options.SecretInput = [],  # noqa: B006
    hide: options.Hide = [],  # noqa: B006
    keep_only: options.KeepOnly = [],  # noqa: B006
    calibrate: options.Calibrate = None,
    dim: options.Dimensions = [],  # noqa: B006
) -> None:
    """Split a model's weights into three files, one for each server; any one alone is noise."""
    from onnxpuma.commands.samples import read_samples
    from onnxpuma.graph.folder import find
    from onnxpuma.roles.owner import share_model
    from onnxpuma.roles.shared_model import INDEX

    there = find(model)
    screen.note_left_out(there.ignored)
    samples = read_samples(calibrate, [source.name for source in there.sources])
    with screen.progress(f"sharing {model.name}") as advance:
        shared = share_model(
            model,
            out,
            public=public,
            secret=secret,
            public_inputs=public_input,
            secret_inputs=secret_input,
            hide=hide,
            keep_only=keep_only,
            samples=samples,
            sizes=options.read_sizes(dim),
            progress=advance,
        )
    folders = () if shared.single else tuple(shared.graphs)
    rows = [
        (f"{path.name}/" if path.name in folders else path.name, screen.size(_size(path)), reader)
        for path in sorted(out.iterdir())
        if (reader := _EVERYBODY if path.name in folders else _READERS.get(path.name))
    ]
    screen.table(("file", "size", "for"), [(screen.plain(name), *row) for name, *row in rows], numbers=(1,))
    screen.say(f"\n{len(shared.arrays)} arrays of weights are secret; digest {shared.digest[:16]}")
    for name, blueprint in shared.graphs.items():
        hidden = screen.listing([n for n, spec in blueprint.inputs.items() if spec.secret]) or "none"
        shown = screen.listing(blueprint.public_inputs) or "none"
        of = f"{name}: " if folders else ""
        screen.say(f"{of}secret inputs: {hidden}; public inputs: {shown}")
    ranges = sum(len(blueprint.ranges) for blueprint in shared.graphs.values())
    if ranges:
        nodes = f"{ranges} node{'s' if ranges > 1 else ''}"
        screen.say(f"calibrated: ranges of {nodes} are in policy.json, for everybody to see")
    public_files = f"{INDEX}, the folders" if folders else "skeleton.onnx, policy.json"
    screen.note(f"Give server I {public_files} and partyI.safetensors from {out}, and no other part.")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


_EVERYBODY = "all three servers"
_READERS = {
    "model.json": _EVERYBODY,
    "skeleton.onnx": _EVERYBODY,
    "policy.json": _EVERYBODY,
    "party0.safetensors": "server 0 alone",
    "party1.safetensors": "server 1 alone",
    "party2.safetensors": "server 2 alone",
}
