"""The options for noise on outputs, and what they promise, for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from onnxpuma.commands import screen
from onnxpuma.errors import BuildError, ConfigError

if TYPE_CHECKING:
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.noise.noised import Noised
    from onnxpuma.plan.noise.wish import OutputNoise


def _number(flag: str, metavar: str, text: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, show_default=False)


Noise: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--noise",
        metavar="PATTERN=KIND",
        help="Outputs that clients get with noise, gaussian or laplace, so that answers tell little of the"
        " weights: --noise logits=gaussian. May be repeated.",
        show_default=False,
    ),
]
Sensitivity: TypeAlias = Annotated[
    float | None,
    _number(
        "--sensitivity", "NUMBER", "How far an answer may move between two models that noise makes alike."
    ),
]
Epsilon: TypeAlias = Annotated[
    float | None, _number("--epsilon", "NUMBER", "Privacy loss of one answer; of gaussian noise, at --delta.")
]
Delta: TypeAlias = Annotated[
    float | None, _number("--delta", "NUMBER", "Probability with which --epsilon may fail: 1e-6.")
]
Rho: TypeAlias = Annotated[
    float | None, _number("--rho", "NUMBER", "In place of --epsilon: rho (zCDP) of one answer.")
]
Answers: TypeAlias = Annotated[
    int | None, _number("--answers", "N", "Answers that each client may get; a batch of n rows counts n.")
]
Together: TypeAlias = Annotated[
    bool, typer.Option("--together", help="Let --answers hold for all clients together, who may collude.")
]
Clip: TypeAlias = Annotated[
    str | None,
    _number(
        "--clip", "LOW:HIGH", "Move scores into this range before they get noise; bounds the sensitivity."
    ),
]
Label: TypeAlias = Annotated[
    bool, typer.Option("--label", help="Give clients the place of the largest noisy score, and no score.")
]
ScoreError: TypeAlias = Annotated[
    float | None,
    _number("--score-error", "NUMBER", "Largest error of a computed score, added to --sensitivity: 1/128."),
]


def read(noise: Sequence[str], answers: int | None, clip: str | None, **wishes: Any) -> OutputNoise | None:
    """The wish that these options state; None where --noise is not among them. wishes: other fields, None
    where they are left out. Raises ConfigError."""
    from onnxpuma.plan.noise.wish import OutputNoise

    stated = {name: value for name, value in wishes.items() if value not in (None, False)}
    if not noise:
        if stated or answers is not None or clip is not None:
            raise ConfigError(
                "an option about noise has no effect without --noise", "add --noise OUTPUT=gaussian"
            )
        return None
    pairs = [text.rpartition("=")[::2] for text in noise]
    kinds = {kind for _, kind in pairs}
    if len(kinds) > 1 or not all(pattern for pattern, _ in pairs):
        raise ConfigError(
            f"--noise {' --noise '.join(noise)} is not PATTERN=KIND with one kind",
            "write --noise logits=gaussian",
        )
    if answers is None:
        raise ConfigError("noise needs a limit of answers: their losses add up", "add --answers 1000")
    ends = None if clip is None else _range(clip)
    return OutputNoise(
        outputs=[pattern for pattern, _ in pairs], kind=kinds.pop(), answers=answers, clip=ends, **stated
    )


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in text.split(":"))
    except ValueError:
        raise ConfigError(f"--clip {text} is not LOW:HIGH", "write --clip -8:8") from None
    return low, high


def show(graphs: Mapping[str, Blueprint]) -> None:
    """Print the noise on each output of each graph that has any, and the loss that it leaves."""
    for blueprint in graphs.values():
        if blueprint.noised is not None:
            _show(blueprint.noised)


def _show(noised: Noised) -> None:
    screen.say(
        f"\n[bold]Noise[/bold]  {noised.kind}, drawn by each server; two of the three protect an answer"
    )
    rows = [
        (
            f"  {screen.plain(name)}",
            output.size,
            f"{output.distance * output.unit:.4g}",
            f"{output.scale * output.unit:.4g}",
            f"{noised.deviation(name):.4g}",
        )
        for name, output in noised.outputs.items()
    ]
    titles = ("  output", "elements", "moves by at most", "drawn scale", "deviation in an answer")
    screen.table(titles, rows, numbers=(1, 2, 3, 4))
    who = "all clients together" if noised.together else "each client"
    screen.say(f"  one answer: {_loss(noised, 1)}")
    screen.say(f"  {noised.answers:,} answers, which {who} may get: {_loss(noised, noised.answers)}")


def _loss(noised: Noised, answers: int) -> str:
    gaussian = noised.delta > 0
    try:
        epsilon = f"epsilon {noised.epsilon(answers):.4g}"
    except BuildError:
        epsilon = "epsilon unknown, as OpenDP is not installed"
    if not gaussian:
        return epsilon
    return f"rho {answers * noised.loss:.4g}, {epsilon} at delta {noised.delta:g}"


def entries(blueprint: Blueprint) -> dict[str, Any]:
    """The noise of a graph for a program; empty where there is none."""
    noised = blueprint.noised
    return {} if noised is None else {"noise": {**noised.entries(), "loss": noised.loss}}
