"""Three servers and a client that plan ahead: the next step of a text finds its plan, and nothing waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request import plans
from onnxpuma.roles.request.ahead import Ahead
from onnxpuma.roles.request.kept import Kept
from tests.roles.test_kept import NO_PAST, cached_model, in_the_clear, rows

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cached")
    onnx.save(cached_model(), made / "cached.onnx")
    share_model(made / "cached.onnx", made)
    return made


@pytest.fixture(scope="module")
def servers(folder: Path, in_threads: Any) -> Iterator[Any]:
    with in_threads(folder) as made:
        yield made


@pytest.fixture
def client(servers: Any) -> Iterator[Client]:
    with servers.client() as made:
        yield made


class Text:
    """A text that grows by a row at the servers."""

    def __init__(self, folder: Path, client: Client, first: int = 3) -> None:
        self.folder, self.client, self.x = folder, client, rows(40)
        began = client.run({"x": self.x[:, :first], "past": NO_PAST}, keep=["present"])
        self.kept: Kept = began.kept["present"]

    def step(self, new: int = 1) -> None:
        end = self.kept.shape[1] + new
        feed = {"x": self.x[:, self.kept.shape[1] : end], "past": self.kept}
        outcome = self.client.run(feed, ["y"], keep=["present"], release=[self.kept])
        want = in_the_clear(self.folder, self.x[:, :end])[:, -new:]
        assert np.abs(outcome.outputs["y"] - want).max() < 1e-3
        self.kept = outcome.kept["present"]


def test_servers_find_the_plan_of_the_next_step(
    folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third step on, until the text grows by two rows."""
    made: list[tuple[bool, bool]] = []  # for each plan, whether a server made it, and whether ahead
    own, here = plans.compile_plan, threading.get_ident()

    def noted(*given: Any, **options: Any) -> Any:
        budget = options["budget"]
        made.append((threading.get_ident() != here, budget is not None and budget.pause is not None))
        return own(*given, **options)

    monkeypatch.setattr(plans, "compile_plan", noted)
    text, asked, ahead = Text(folder, client, 20), (True, False), (True, True)
    for number, new in enumerate((1, 1, 1, 1, 2)):
        made.clear()
        text.step(new)
        assert made.count(asked) == (3 if number in (0, 1, 4) else 0)
        deadline = time.monotonic() + 30
        while made.count(ahead) < (3 if 0 < number < 4 else 0):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_guess_that_is_wrong_does_no_harm(folder: Path, client: Client) -> None:
    text, other = Text(folder, client), Text(folder, client, 9)
    for new in (1, 1, 1, 4, 1, 2, 3, 1):
        text.step(new)
        other.step(1)


def test_who_always_has_more_to_plan_answers_all_the_same(
    folder: Path, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = set()

    def without_end(self: Ahead, until: Callable[[], bool]) -> None:
        planning.add(threading.get_ident())
        while not until():
            time.sleep(1e-4)

    monkeypatch.setattr(Ahead, "busy", property(lambda self: True))
    monkeypatch.setattr(Ahead, "go_on", without_end)
    with servers.client() as client:
        text = Text(folder, client)
        for new in (1, 2):
            text.step(new)
    assert len(planning) == 4  # three servers and the client
