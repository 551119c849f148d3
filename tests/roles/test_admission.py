"""An overloaded server says at once when to try again."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.config import KeptConfig, LimitConfig
from onnxpuma.errors import BusyError
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated
from onnxpuma.plan.plan import PlannedOutput
from onnxpuma.roles.server import admission
from onnxpuma.roles.server.admission import Admission
from onnxpuma.roles.server.store import KeptShares, Store
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.failure import error_of, failure_of
from tests.roles.test_turns import MEGABYTE, request

LIMITS = LimitConfig(waiting=3, queue=5, queue_megabytes=4)


def refused(made: Admission, waiting: list[Any], limits: LimitConfig = LIMITS, **of: Any) -> BusyError:
    with pytest.raises(BusyError) as caught:
        made.check(request("a", **of), waiting, limits)
    assert caught.value.retry_after is not None
    assert f"try again in {caught.value.retry_after:.2g} s" in caught.value.hint
    return caught.value


def test_the_time_follows_from_the_runs_of_late() -> None:
    made = Admission()
    for _ in range(60):
        made.ran(seconds=2.0, requests=2)
    assert made.wait(4) == pytest.approx(4.0, rel=0.01)
    error = refused(made, [request("a")] * 3)
    assert "3 requests of client a wait already" in error.message
    assert error.retry_after == pytest.approx(4.0, rel=0.01)


def test_all_clients_together_have_a_queue() -> None:
    made = Admission()
    others = [request(str(number)) for number in range(5)]
    made.check(request("a"), others[:4], LIMITS)
    assert "5 requests wait already" in refused(made, others).message
    large = [request("b", size=MEGABYTE) for _ in range(3)]
    made.check(request("a", size=MEGABYTE), large, LIMITS)
    assert "have 5 MB" in refused(made, large, size=2 * MEGABYTE).message


def test_a_client_makes_so_many_requests_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: now.time))
    made, limits = Admission(), LimitConfig(requests_a_minute=6)
    for _ in range(6):
        made.check(request("a"), [], limits)
    error = refused(made, [], limits)
    assert error.retry_after == pytest.approx(10.0)
    made.check(request("b"), [], limits)
    now.time += 10.1
    made.check(request("a"), [], limits)
    refused(made, [], limits)


def test_the_seconds_reach_the_client() -> None:
    sent = failure_of(BusyError("full", "later", 2.5))
    told = error_of(wire_pb2.Failure.FromString(sent.SerializeToString()), 1)
    assert isinstance(told, BusyError)
    assert told.retry_after == 2.5
    assert pickle.loads(pickle.dumps(told)).retry_after == 2.5
    plain = error_of(failure_of(BusyError("full")), 1)
    assert isinstance(plain, BusyError)
    assert plain.retry_after is None


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_server_cannot_make_a_client_wait_for_a_strange_time(seconds: float) -> None:
    failure = wire_pb2.Failure(error="BusyError", message="full", retry_after=seconds)
    told = error_of(failure, 0)
    assert isinstance(told, BusyError)
    assert told.retry_after is None


def test_kept_values_of_all_clients_have_a_limit() -> None:
    store = Store(KeptConfig(seconds=60.0, megabytes=4, all_megabytes=5))
    count = 4_000_000 // 16
    output = PlannedOutput("y", (count,), np.dtype(np.float32), RESTING, secret=True, kept=True)
    words = np.zeros(count, np.uint64)
    plan: Any = SimpleNamespace(kept=[output])
    store.check_room(plan, "a")
    store.put("a", b"h", {"y": KeptShares(Replicated(0, words, words, RESTING), output, b"s")})
    store.check_room(plan, "a")
    with pytest.raises(BusyError, match="where others keep 4 MB") as caught:
        store.check_room(plan, "b")
    assert caught.value.retry_after == pytest.approx(60.0, abs=1.0)
    store.check_room(SimpleNamespace(kept=[replace(output, shape=(count // 8,))]), "b")  # type: ignore[arg-type]
