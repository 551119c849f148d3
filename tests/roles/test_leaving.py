"""A server is told to leave while a request runs and another waits: one is finished, the other repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from onnxpuma.errors import OnnxpumaError
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.shared.model import SharedModel


class Asker(Thread):
    """A client that sends one request, and notes how it stands and what comes of it."""

    def __init__(self, hall: Any, folder: Path, feed: Any) -> None:
        super().__init__(daemon=True)
        self.client = Client(hall.config, hall.client_keys, SharedModel.read(folder))
        self.feed, self.steps, self.news = feed, [], []  # type: ignore[var-annotated]
        self.outcome: Any = None
        self.start()

    def note(self, done: int, of: int, what: str) -> None:
        self.news.append(what)
        if done:
            self.steps.append(done)

    def run(self) -> None:
        with self.client:
            try:
                self.outcome = self.client.run(self.feed, progress=self.note)
            except OnnxpumaError as error:
                self.outcome = error


@pytest.fixture
def patient_hall(hall: Any) -> Any:
    hall.config = replace(hall.config, timeouts=replace(hall.config.timeouts, connect=60.0, heartbeat=20.0))
    return hall


@pytest.mark.parametrize("party", [0, 1])
def test_what_runs_is_finished_and_what_waits_is_repeated(
    party: int, patient_hall: Any, long_model_dir: Path, feed: Any, until: Any
) -> None:
    hall = patient_hall
    threads = [hall.start(i, long_model_dir) for i in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    with hall.unhurried():
        first = Asker(hall, long_model_dir, feed)
        until(lambda: first.steps, 60)
        second = Asker(hall, long_model_dir, feed)
        until(lambda: any("wait before" in what for what in second.news), 60)
        threads[party].orders.leave.set()
    assert threads[party].ended(60) is None
    first.join(60)
    assert first.outcome.outputs["y"].shape == (2, 8), first.outcome
    assert second.is_alive(), "it waits for the server that follows"
    again = hall.start(party, long_model_dir)
    assert again.ready.wait(60)
    second.join(60)
    assert second.outcome.outputs["y"].shape == (2, 8), second.outcome


def test_what_runs_longer_than_it_may_is_ended(
    patient_hall: Any, long_model_dir: Path, feed: Any, until: Any
) -> None:
    hall = patient_hall
    hall.config = replace(hall.config, timeouts=replace(hall.config.timeouts, drain=0.0))
    threads = [hall.start(i, long_model_dir) for i in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    with hall.unhurried():
        asker = Asker(hall, long_model_dir, feed)
        until(lambda: asker.steps, 60)
        threads[2].orders.leave.set()
        assert threads[2].ended(60) is None
        asker.join(60)
    assert isinstance(asker.outcome, OnnxpumaError)
    assert "server 2 was stopped" in asker.outcome.message
