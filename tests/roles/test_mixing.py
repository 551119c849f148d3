"""Where canaries ride: how often, on which side of a request, in which pauses, and what fits."""

from __future__ import annotations

import logging
import random
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import CanaryError, ConfigError, InputError, PeerLostError
from onnxpuma.roles.client import spread
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.mixing import Mixing, Ridden
from onnxpuma.roles.client.spread import Spread
from onnxpuma.roles.request.canary_file import Canaries, Canary

X, MASK = np.ones((1, 4), np.float32), np.ones((1, 4), np.int64)
CANARIES = Canaries("ab", {"y": 0.5}, [Canary({"x": X, "mask": MASK}, {"y": X, "id": MASK})])
RIDDEN = Ridden({"x": (1, 4), "mask": (1, 4)}, {"mask": MASK}, ("y",), (), None, (), True)


class Asked:
    """A client that notes what it is asked, and answers canaries with `y`."""

    def __init__(self, y: np.ndarray = X, error: Exception | None = None, refuses: bool = False) -> None:
        self.log, self._y, self._error, self._refuses = list[str](), y, error, refuses

    def probe(self, canary: Canary, ridden: Ridden, sent: Sent) -> Any:
        assert len(sent.opening) == 32
        self.log.append("canary")
        sent.id = b"1" * 16
        if self._error is not None:
            raise self._error
        return SimpleNamespace(outputs={"y": self._y})

    def complain(self, sent: Sent, folder: Path, error: str) -> tuple[Path, list[str]]:
        self.log.append("complain")
        path = folder / "c.audit"
        if not folder.is_dir():
            raise ConfigError(f"cannot write {path}", "x")
        path.write_bytes(b"")
        return path, ["gone" if self._refuses else "", "gone" if self._refuses else "", "gone"]

    def another(self) -> Asked:
        self.log.append("another")
        return self

    def close(self) -> None:
        self.log.append("close")

    def ask(self) -> Any:
        self.log.append("request")
        return SimpleNamespace(outputs={})


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 1.0])
def test_the_rate_is_that_of_canaries_for_each_request(rate: float) -> None:
    client, mixing = Asked(), Mixing(CANARIES, rate, draw=random.Random(1))
    for _ in range(4000):
        mixing.beside(client, RIDDEN, client.ask)
    assert mixing.sent == client.log.count("canary")
    assert abs(mixing.sent - 4000 * rate) <= 5 * (4000 * rate / 2) ** 0.5
    assert client.log.count("request") == 4000


def test_a_canary_is_as_often_before_a_request_as_after_it() -> None:
    """So neither the first nor the last request of a client is surely an ordinary one."""
    first = last = 0
    for seed in range(1000):
        client, mixing = Asked(), Mixing(CANARIES, 1.0, draw=random.Random(seed))
        mixing.beside(client, RIDDEN, client.ask)
        first += client.log[0] == "canary"
        last += client.log[-1] == "canary"
    assert abs(first - 500) < 80
    assert abs(last - 500) < 80


def test_a_wrong_answer_is_complained_of(tmp_path: Path) -> None:
    client = Asked(X + 0.6)
    mixing = Mixing(CANARIES, 1.0, folder=tmp_path)
    with pytest.raises(
        CanaryError, match=r"'y' is off by 0\.6, where honest runs stay within 0\.5"
    ) as caught:
        mixing.probe(client, RIDDEN)
    assert client.log == ["canary", "complain"]
    assert mixing.files == [tmp_path / "c.audit"]
    assert "server 2 hands over nothing: gone" in caught.value.hint
    assert "server 0" not in caught.value.hint
    mixing.probe(Asked(X + 0.4), RIDDEN)
    assert mixing.wrong == 1


def test_a_run_that_failed_is_complained_of_if_it_had_begun(tmp_path: Path) -> None:
    lost = PeerLostError("server 1 is gone", "x")
    mixing = Mixing(CANARIES, 1.0, folder=tmp_path)
    with pytest.raises(CanaryError, match="the run of a canary failed: server 1 is gone"):
        mixing.probe(Asked(error=lost), RIDDEN)
    assert (tmp_path / "c.audit").exists()
    with pytest.raises(PeerLostError):
        mixing.probe(Asked(error=lost, refuses=True), RIDDEN)
    assert not (tmp_path / "c.audit").exists()
    assert mixing.wrong == 1


def test_a_canary_that_cannot_begin_costs_no_request(tmp_path: Path) -> None:
    client = Asked(error=PeerLostError("server 1 is gone", "x"), refuses=True)
    mixing = Mixing(CANARIES, 1.0, folder=tmp_path)
    for _ in range(20):
        mixing.beside(client, RIDDEN, client.ask)
    assert client.log.count("request") == 20
    assert mixing.sent == 0
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_answer_is_told_though_nothing_could_be_stored(tmp_path: Path) -> None:
    mixing = Mixing(CANARIES, 1.0, folder=tmp_path / "none")
    with pytest.raises(CanaryError, match=r"is wrong: 'y' is off by 1.*nothing could be stored"):
        mixing.probe(Asked(X + 1), RIDDEN)


def test_what_fits(caplog: pytest.LogCaptureFixture) -> None:
    def ridden(**changes: Any) -> Ridden:
        given = {
            "shapes": RIDDEN.shapes,
            "public": RIDDEN.public,
            "opened": ("y",),
            "covered": True,
            **changes,
        }
        return Ridden(given["shapes"], given["public"], given["opened"], (), None, (), given["covered"])

    mixing, client = Mixing(CANARIES, 1.0), Asked()
    assert len(mixing.fitting(ridden(opened=("id", "y")))) == 1
    others = [
        {"shapes": {"x": (2, 4), "mask": (1, 4)}},
        {"opened": ("y", "z")},
        {"public": {"mask": MASK * np.array([1, 1, 1, 0])}},
    ]
    for other in others:
        with pytest.raises(InputError, match="no canary fits a request"):
            mixing.beside(client, ridden(**other), client.ask)
    assert client.log == []
    mixing.beside(client, ridden(covered=False), client.ask)  # it goes on from kept values
    assert client.log == ["request"]
    apart = Mixing(CANARIES, 1.0, spread=True)
    for _ in range(3):
        apart.beside(client, ridden(**others[0]), client.ask)
    apart.close()
    assert client.log == ["request"] * 4
    assert caplog.text.count("no canary fits a request") == 1


def test_ids_are_compared_exactly() -> None:
    canary = CANARIES.every[0]
    assert CANARIES.difference(canary, {"id": MASK}) is None
    assert CANARIES.difference(canary, {"id": MASK + 1}) == "'id' has other values than honest servers return"


def test_pauses_are_those_between_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(spread, "time", SimpleNamespace(monotonic=lambda: now.time))
    made = Spread(random.Random(2))
    monkeypatch.setattr(made, "_work", lambda: None)
    made.note(lambda: None)  # no pause is known yet
    assert made._due == []
    pauses = [1.0, 4.0, 0.5]
    for pause in pauses:
        now.time += pause
        made.note(None)
    seen = set()
    for _ in range(100):
        now.time += 4.0
        made.note(lambda: None)
        made._pauses.pop()
        seen.add(made._due[-1][0] - now.time)
    assert seen == set(pauses)


def test_canaries_in_pauses_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    client, mixing = Asked(X + 1), Mixing(CANARIES, 1.0, folder=tmp_path, spread=True)
    told = threading.Event()
    real = client.complain

    def complain(*of: Any) -> Any:
        told.set()
        return real(*of)

    client.complain = complain  # type: ignore[method-assign]
    for _ in range(3):
        mixing.beside(client, RIDDEN, client.ask)
    assert told.wait(20)
    deadline = time.monotonic() + 20
    while "the answer to a canary is wrong" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    mixing.close()
    assert "the answer to a canary is wrong" in caplog.text
    assert "onnxpuma audit" in caplog.text
    assert client.log.count("request") == 3
    assert client.log.count("another") == 1
    assert client.log[-1] == "close"
