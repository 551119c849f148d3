"""Three servers in threads with four models and eight clients, and runs that wait where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxpuma.config import LimitConfig
from onnxpuma.errors import OnnxpumaError
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.server import runs
from onnxpuma.transport.curve import generate
from onnxpuma.transport.signing import SigningKey
from tests.roles.conftest import TIMEOUTS, Hall, tiny_model
from tests.roles.test_kept import cached_model

LAYERS = 12  # of the models whose runs take many rounds


CLIENTS = 8


ERROR = {
    "long": 0.05,
    "other": 0.05,
    "short": 1e-3,
    "cached": 1e-3,
}  # fifty layers of tanh amplify the rounding


HELD_ROUND = 5


Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    return {
        "long": tiny_model(seed=1, layers=LAYERS),
        "other": tiny_model(seed=3, layers=LAYERS),
        "short": tiny_model(seed=2),
        "cached": cached_model(),
    }


@pytest.fixture(scope="module")
def folders(models: dict[str, onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models, shared."""
    made = {}
    for name, model in models.items():
        made[name] = tmp_path_factory.mktemp(name)
        onnx.save(model, made[name] / "model.onnx")
        share_model(made[name] / "model.onnx", made[name])
    return made


class Cluster(Hall):
    """Three servers in threads that serve all models to eight clients, and sign what they do."""

    def __init__(self, folders: dict[str, Path], **limits: int) -> None:
        super().__init__()
        self.client_pairs = [self.client_keys, *[generate() for _ in range(CLIENTS - 1)]]
        clients = {f"c{number}": pair.public for number, pair in enumerate(self.client_pairs)}
        signing = [SigningKey.generate() for _ in range(3)]
        rows = [
            replace(row, signing_key=key.public)
            for row, key in zip(self.config.parties, signing, strict=True)
        ]
        self.config = replace(
            self.config,
            parties=tuple(rows),
            clients=clients,
            limits=LimitConfig(**limits),
            timeouts=replace(TIMEOUTS, connect=30.0, heartbeat=30.0, arrival=30.0, request=120.0),
        )
        threads = [self.start(party, folders, signing=signing[party]) for party in range(3)]
        assert all(thread.ready.wait(60) for thread in threads)

    def client(self, number: int, model: str) -> Client:
        return Client(self.config, self.client_pairs[number], model_name=model)


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[Cluster]:
    made = Cluster(folders)
    yield made
    made.stop()


class Asking(Thread):
    """One request in a thread."""

    def __init__(self, client: Client, feed: Feed, **options: Any) -> None:
        super().__init__(daemon=True)
        self.client, self.feed, self.options = client, feed, options
        self.begun = Event()  # it computes
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.client.run(self.feed, progress=self._note, **self.options)
        except OnnxpumaError as error:
            self.outcome = error

    def _note(self, done: int, of: int, label: str) -> None:
        if done:
            self.begun.set()

    def ended(self, seconds: float = 100.0) -> Any:
        self.join(seconds)
        assert not self.is_alive(), "the client hangs"
        return self.outcome


def right(models: dict[str, onnx.ModelProto], name: str, feed: Feed, outcome: Any) -> bool:
    """Whether this is the model's answer, as one computes it in the clear."""
    assert isinstance(outcome, Outcome), outcome
    session = onnxruntime.InferenceSession(models[name].SerializeToString())
    return bool(np.abs(outcome.outputs["y"] - session.run(["y"], feed)[0]).max() < ERROR[name])


class Held:
    """Runs of these models get no further than a few rounds at party 0, as on a network that is down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *models: str) -> None:
        self.released, self.holding = Event(), list[str]()
        real = runs.compute

        def compute(begun: Any, interpreter: Any, joints: Any, on_round: Any, progress: Any) -> Any:
            model = begun.requests[0][0].request.body.model
            if begun.link.party == 0 and model in models:
                on_round = self._stopping(on_round, model)
            return real(begun, interpreter, joints, on_round, progress)

        monkeypatch.setattr(runs, "compute", compute)

    def _stopping(self, on_round: Any, model: str) -> Callable[[], None]:
        rounds = 0

        def stop() -> None:
            nonlocal rounds
            rounds += 1
            on_round()
            if rounds == HELD_ROUND:
                self.holding.append(model)
                on_round.__self__.wait(self.released.is_set)

        return stop


def running(client: Client) -> list[int]:
    """The requests that run, by server."""
    return [status.running for status in client.status()]  # type: ignore[union-attr]
