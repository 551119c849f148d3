"""demo and models: the shipped models, run on shares on this machine, as each side sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from onnxpuma.commands import pictures, screen
from onnxpuma.commands.local import start_servers
from onnxpuma.errors import ConfigError

if TYPE_CHECKING:
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.plan import Plan
    from onnxpuma.roles.client.client import Client, Outcome
    from onnxpuma.shipped import ShippedModel

DEFAULT = "breast-cancer"
WORDS_SHOWN = 4
PROMPT_TOKENS = 12
MOST_TOKENS = 24


def models() -> None:
    """List the trained models that ship with onnxpuma."""
    from onnxpuma.shipped import shipped_models

    rows = [
        (name, model.card["about"], model.card["weights"], f"{100 * model.card['heldout']['accuracy']:.1f} %")
        for name, model in shipped_models().items()
    ]
    screen.table(("name", "description", "weights", "held-out accuracy"), rows, numbers=(2, 3))
    folder = next(iter(shipped_models().values())).folder.parent
    screen.say(f"\nfolder: {screen.plain(folder)}")


def demo(
    name: Annotated[str, typer.Argument(help="A model that `onnxpuma models` lists.")] = DEFAULT,
    example: Annotated[int, typer.Option("--example", min=0, help="Which held-out example to use.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each party.")] = 1,
) -> None:
    """Run a shipped model on three servers on this machine, and show what each of them sees."""
    from onnxpuma.roles.owner.owner import share_model
    from onnxpuma.shipped import shipped_model

    model = shipped_model(name)
    if example >= len(model.inputs):
        last = len(model.inputs) - 1
        raise ConfigError(f"{name} has no example {example}", f"choose one from 0 to {last}")
    screen.say(f"[bold]{name}[/bold]: {screen.plain(model.card['about'])}")
    screen.say(
        "The weights belong to the model's owner, the input to a client. Three servers compute the result\n"
        "and see neither; here they are three processes on this machine."
    )
    with TemporaryDirectory(prefix="onnxpuma-") as folder:
        with screen.progress("sharing the weights") as advance:
            blueprint = share_model(model.path, folder, progress=advance).blueprint
        _show_weights(Path(folder), blueprint, model)
        with start_servers(folder, threads) as servers, servers.client() as client:
            _Show(model, client).run(example)


class _Show:
    """Sends one example of a model to running servers, and shows each side's view."""

    def __init__(self, model: ShippedModel, client: Client) -> None:
        self.model, self.client = model, client

    def run(self, example: int) -> None:
        value = self.model.inputs[example : example + 1]
        if self.model.card["task"] == "text-generation":
            self._tell(value[:, :PROMPT_TOKENS])
        else:
            self._classify(value, int(self.model.labels[example]))

    def _classify(self, value: np.ndarray, label: int) -> None:
        self._show_input(value)
        outcome = self._ask(value, watched=True)
        classes = self.model.card["classes"]
        _title("What the client opens")
        pictures.show(pictures.draw_classes(classes, outcome.outputs[self.model.output_name][0]))
        plain = self._in_the_clear(value)
        _title("What onnxruntime says in the clear")
        pictures.show(pictures.draw_classes(classes, plain[0]))
        apart = float(np.abs(outcome.outputs[self.model.output_name] - plain).max())
        screen.say(f"  true class: {classes[label]}; largest difference in a logit: {apart:.2g}")
        screen.say(f"\n{outcome.cost}")

    def _tell(self, ids: np.ndarray) -> None:
        """Continue a text, one token per request: the servers see its length and not one word of it."""
        self._show_input(ids)
        outcomes: list[Outcome] = []
        length = ids.shape[1]
        while len(outcomes) < MOST_TOKENS:
            outcomes.append(self._ask(ids, not outcomes, f", token {len(outcomes) + 1}"))
            token = int(outcomes[-1].outputs[self.model.output_name][0, -1].argmax())
            ids = np.concatenate([ids, np.array([[token]], ids.dtype)], axis=1)
            if pictures.ends_sentence(self.model, token):
                break
        _title("How the model continues, as the client opens it")
        pictures.show([f"... {pictures.tell(self.model, ids[0, length:])}"])
        same = sum(
            int(self._in_the_clear(ids[:, :place])[0, -1].argmax()) == int(ids[0, place])
            for place in range(length, ids.shape[1])
        )
        _title("What onnxruntime says in the clear")
        pictures.show([f"the same token {same} times of {ids.shape[1] - length}"])
        screen.say(f"\nthe last token: {outcomes[-1].cost}")

    def _show_input(self, value: np.ndarray) -> None:
        _title("What the client has")
        pictures.show(pictures.draw_input(self.model, value))

    def _ask(self, value: np.ndarray, watched: bool, what: str = "") -> Outcome:
        with screen.progress(f"computing on shares{what}") as advance:
            return self.client.run(
                {self.model.input_name: value},
                [self.model.output_name],
                progress=advance,
                dealt=self._show_dealt if watched else None,
            )

    def _show_dealt(self, plan: Plan, private: Sequence[Sequence[Any]]) -> None:
        from onnxpuma.roles.request.message import received

        _title("What each server receives of it")
        for party, buffers in enumerate(private):
            held = next(iter(received(plan, party, [memoryview(b).cast("B") for b in buffers]).values()))
            size = sum(memoryview(b).nbytes for b in buffers)
            pictures.show(
                [f"server {party}  {pictures.draw_share(held, WORDS_SHOWN)} ...  ({screen.size(size)})"]
            )

    def _in_the_clear(self, value: np.ndarray) -> np.ndarray:
        from onnxpuma.check.validation import run_in_the_clear

        return run_in_the_clear(self.model.path, {self.model.input_name: value})[self.model.output_name]


def _show_weights(folder: Path, blueprint: Blueprint, model: ShippedModel) -> None:
    from onnxpuma.graph.folder import ONLY_GRAPH
    from onnxpuma.roles.shared.weights import load_weights

    name = max(blueprint.weights, key=lambda weight: blueprint.graph.initializers[weight].size)
    _title(f"What each server receives of the {model.card['weights']:,} weights; here, of {name}")
    for party in range(3):
        share = load_weights(folder, party)[ONLY_GRAPH][name]
        pictures.show([f"server {party}  {pictures.draw_share(share, WORDS_SHOWN)} ..."])


def _title(text: str) -> None:
    screen.say(f"\n[bold]{screen.plain(text)}[/bold]")
