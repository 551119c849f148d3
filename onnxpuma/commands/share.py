"""share: the model owner's command. Afterwards nobody needs the ONNX file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxpuma.commands import disclosed, noise, options, proved, screen

if TYPE_CHECKING:
    from onnxpuma.observe import Progress
    from onnxpuma.roles.shared.model import SharedModel


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
    declared: options.Ranges = [],  # noqa: B006
    ring: options.Rings = [],  # noqa: B006
    range_check: Annotated[
        bool,
        typer.Option(
            "--range-check/--no-range-check",
            help="In every run, tell the client whether a value left the range in which results are correct.",
        ),
    ] = True,
    owner: Annotated[
        Path | None,
        typer.Option(
            "--owner",
            metavar="OWNER.public",
            help="Your key from `keygen --owner`: with it clients can use canaries, and you can audit them.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the shared model in the folder.")
    ] = False,
    noise_on: noise.Noise = [],  # noqa: B006
    sensitivity: noise.Sensitivity = None,
    epsilon: noise.Epsilon = None,
    delta: noise.Delta = None,
    rho: noise.Rho = None,
    answers: noise.Answers = None,
    together: noise.Together = False,
    clip: noise.Clip = None,
    label: noise.Label = False,
    score_error: noise.ScoreError = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree that everybody sees the constants that may be trained.")
    ] = False,
) -> None:
    """Split a model's weights into shares for three servers; those of any one server alone are noise."""
    from onnxpuma.commands.samples import read_samples
    from onnxpuma.graph.folder import find
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.roles.owner.disclosure import doubtful
    from onnxpuma.roles.owner.owner import share_model
    from onnxpuma.roles.shared.model import INDEX
    from onnxpuma.transport.sealing import read_owner_key

    policy = Policy(
        public=public,
        secret=secret,
        public_inputs=public_input,
        secret_inputs=secret_input,
        hide=hide,
        keep_only=keep_only,
        range_check=range_check,
        owner_key="" if owner is None else read_owner_key(owner),
        ranges=options.read_ranges(declared),
        noise=noise.read(
            noise_on,
            answers,
            clip,
            sensitivity=sensitivity,
            epsilon=epsilon,
            delta=delta,
            rho=rho,
            together=together,
            label=label,
            error=score_error,
        ),
        **options.read_rings(ring),
    )
    there = find(model)
    screen.note_left_out(there.ignored)
    samples = read_samples(calibrate, [source.name for source in there.sources], model)
    with _Bars(model.name) as bars:

        def review(found: SharedModel) -> bool:
            bars.close()
            disclosed.show(found.graphs)
            names = [entry.name for entries in doubtful(found.graphs).values() for entry in entries]
            return not names or yes or screen.agrees(f"May everybody see {screen.listing(names)}?")

        shared = share_model(
            model,
            out,
            policy,
            samples=samples,
            sizes=options.read_sizes(dim),
            replace=replace,
            review=review,
            progress=bars.advance,
        )
    folders = () if shared.single else tuple(shared.graphs)
    rows = [
        (f"{path.name}/" if path.name in folders else path.name, screen.size(_size(path)), reader)
        for path in sorted(out.iterdir())
        if (reader := _EVERYBODY if path.name in folders else _READERS.get(path.name))
    ]
    screen.table(("file", "size", "for"), [(screen.plain(name), *row) for name, *row in rows], numbers=(1,))
    screen.say(f"\n{len(shared.arrays)} arrays of weights are secret; digest {shared.digest[:16]}")
    disclosed.show_inputs(shared.graphs)
    if idle := shared.idle:
        screen.note(
            f"No input goes on from {screen.listing(idle)}: no request can use its kept values."
            " If an input does, name it with --keep-only as well."
        )
    calibrated = sum(len(blueprint.ranges) for blueprint in shared.graphs.values())
    if calibrated:
        nodes = f"{calibrated} node{'s' if calibrated > 1 else ''}"
        screen.say(f"calibrated: ranges of {nodes} are in policy.json, for everybody to see")
    proved.summarise(shared.graphs, options.read_sizes(dim))
    noise.show(shared.graphs)
    if not all(blueprint.checked for blueprint in shared.graphs.values()):
        screen.note("If a value leaves its range, the result is wrong and no client is told.")
    public_files = f"{INDEX} and the folders" if folders else "skeleton.onnx and policy.json"
    screen.note(f"From {out} give each server {public_files}, and of the rest:")
    screen.note("  server 0  party0.keys; never the words: with its keys they are the model")
    screen.note("  server 1  party1.keys, words.safetensors")
    screen.note("  server 2  party2.keys, words.safetensors")


class _Bars:
    """One bar while the model is read, and one while it is shared; the owner may be asked in between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = ExitStack()
        self._advance: Progress | None = None

    def __enter__(self) -> _Bars:
        self._shown.enter_context(screen.progress(f"reading {self._name}"))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Show no bar."""
        self._shown.close()

    def advance(self, done: int, total: int, what: str) -> None:
        """Show how many weights are shared."""
        if self._advance is None:
            self._advance = self._shown.enter_context(screen.progress(f"sharing {self._name}"))
        self._advance(done, total, what)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


_EVERYBODY = "all three servers"
_READERS = {
    "model.json": _EVERYBODY,
    "skeleton.onnx": _EVERYBODY,
    "policy.json": _EVERYBODY,
    "party0.keys": "server 0 alone",
    "party1.keys": "server 1 alone",
    "party2.keys": "server 2 alone",
    "words.safetensors": "servers 1 and 2, never server 0",
}
