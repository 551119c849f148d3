"""Three servers of a model with noise on its outputs: answers, budgets, restarts, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import BudgetError, ConfigError, InputError
from onnxpuma.observe import answers_left
from onnxpuma.plan.noise.wish import OutputNoise
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.server import runs
from onnxpuma.roles.server.server import Server

NOISE = OutputNoise(outputs=["y"], sensitivity=0.1, rho=0.5, answers=6)


@pytest.fixture(scope="module")
def noisy_dir(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noisy")
    share_model(model_path, folder, noise=NOISE)
    return folder


def rows(feed: Any, count: int) -> dict[str, np.ndarray]:
    return {name: value[:1].repeat(count, axis=0) for name, value in feed.items()}


def test_servers_count_answers_and_stop_at_the_budget(noisy_dir: Path, feed: Any) -> None:
    with LocalCluster(noisy_dir) as servers:
        with servers.client() as client:
            first = client.run(rows(feed, 4))
            assert answers_left(first.reports) == 2
            assert np.ptp(first.outputs["y"], axis=0).min() > 0  # equal rows get different noise
            # What follows from the client's own inputs alone has no noise and costs nothing.
            assert answers_left(client.run(rows(feed, 9), ["length"]).reports) == 2
            with pytest.raises(BudgetError, match=r"3 answers would be too many.* 2 are left"):
                client.run(rows(feed, 3))
            with pytest.raises(InputError, match="cannot be kept"):
                client.run(rows(feed, 1), [], keep=["y"])
        servers.restart(1)  # by SIGKILL
        with servers.client() as client:
            assert answers_left(client.run(rows(feed, 2)).reports) == 0
            with pytest.raises(BudgetError, match="0 are left"):
                client.run(rows(feed, 1))
        ledgers = sorted(path.name for path in servers.folder.glob("*.ledger"))
        assert ledgers == ["alice.ledger", "bob.ledger", "carol.ledger"]


def test_a_server_without_a_ledger_does_not_start(hall: Any, noisy_dir: Path) -> None:
    error = hall.start(0, noisy_dir).ended()
    assert isinstance(error, ConfigError)
    assert "--ledger FILE" in error.hint


def test_a_run_that_fails_has_spent_its_answers(
    hall: Any, noisy_dir: Path, feed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxpuma.roles.client.client import Client

    def start(party: int) -> Any:
        made = hall.start
        own = Server.__init__

        def with_ledger(self: Server, *given: Any, **more: Any) -> None:
            own(self, *given, **more, ledger=tmp_path / f"{given[0]}.ledger")

        monkeypatch.setattr(Server, "__init__", with_ledger)
        thread = made(party, noisy_dir)
        monkeypatch.setattr(Server, "__init__", own)
        return thread

    threads = [start(party) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    compute = runs.compute

    def broken(*_: Any) -> Any:
        raise InputError("this run fails", "on purpose")

    with Client(hall.config, hall.client_keys) as client:
        monkeypatch.setattr(runs, "compute", broken)
        with pytest.raises(InputError, match="this run fails"):
            client.run(rows(feed, 4))
        monkeypatch.setattr(runs, "compute", compute)
        assert answers_left(client.run(rows(feed, 1)).reports) == 1
