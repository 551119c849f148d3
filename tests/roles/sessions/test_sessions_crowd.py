"""Mixed requests of eight clients at once, and every answer compared."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxpuma.errors import OnnxpumaError
from tests.roles.conftest import tiny_feed
from tests.roles.sessions.conftest import CLIENTS, ERROR, Cluster
from tests.roles.test_kept import NO_PAST, rows

pytestmark = pytest.mark.timeout(240)


def crowd(served: Cluster, models: dict[str, onnx.ModelProto], requests: int, seconds: float = 230.0) -> None:
    """So many requests of eight clients, of all models, at random; every answer is compared."""
    done, wrong, lock = [0] * CLIENTS, list[str](), threading.Lock()
    plain = {name: onnxruntime.InferenceSession(model.SerializeToString()) for name, model in models.items()}

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        clients = {name: served.client(number, name) for name in models}
        try:
            for turn in range(requests // CLIENTS):
                name = ("short", "cached", "short", "long")[int(rng.integers(4)) if turn % 6 else 3]
                if name == "cached":
                    x = rows(4, seed=int(rng.integers(100)))
                    one = clients[name].run({"x": x[:, :3], "past": NO_PAST}, keep=["present"])
                    kept = one.kept["present"]
                    got = clients[name].run({"x": x[:, 3:], "past": kept}, ["y"], release=[kept])
                    whole = plain[name].run(["y"], {"x": x, "past": NO_PAST})[0]
                    error = np.abs(got.outputs["y"] - whole[:, 3:]).max()
                else:
                    feed = tiny_feed(int(rng.integers(1, 3)), int(rng.integers(2, 4)))
                    feed["x"] = rng.normal(0, 1, feed["x"].shape).astype(np.float32)
                    got = clients[name].run(feed, ["y"])
                    error = np.abs(got.outputs["y"] - plain[name].run(["y"], feed)[0]).max()
                with lock:
                    done[number] += 1
                    if not error < ERROR[name]:
                        wrong.append(f"{name} of client {number}: {error}")
        except OnnxpumaError as error:
            with lock:
                wrong.append(f"client {number}: {error}")
        finally:
            for client in clients.values():
                client.close()

    threads = [Thread(target=work, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    assert wrong == []
    assert done == [requests // CLIENTS] * CLIENTS


def test_mixed_requests_of_eight_clients(served: Cluster, models: dict[str, onnx.ModelProto]) -> None:
    crowd(served, models, 2 * CLIENTS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sessions", [2, 4])
def test_200_mixed_requests_of_eight_clients(
    sessions: int, folders: dict[str, Path], models: dict[str, onnx.ModelProto]
) -> None:
    made = Cluster(folders, sessions=sessions)
    try:
        crowd(made, models, 200, seconds=1100.0)
    finally:
        made.stop()
