"""The figures of one server for Prometheus. They name no client unless the operator asks for that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from onnxpuma.errors import BuildError
from onnxpuma.roles.server.ledger import DONE, LEFT, Entry
from onnxpuma.transport import wire_pb2

if TYPE_CHECKING:
    from prometheus_client import Gauge

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
STATES = ("starting", "idle", "running", "degraded", "stopping")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts what the ledger tells, and shows how the server stands. BuildError without prometheus-client.

    status: how the server stands now. clients: whether to count the requests of each client by its name.
    """

    def __init__(self, status: Callable[[], wire_pb2.Status], clients: bool = False) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ModuleNotFoundError:
            raise BuildError(
                "metrics need prometheus-client", "install it: pip install 'onnxpuma[metrics]'"
            ) from None
        self._status, self._clients = status, clients
        self._registry = where = CollectorRegistry()
        labels = ["kind", "model", *(["client"] if clients else [])]
        self._requests = Counter(
            "onnxpuma_requests", "Requests that have ended, however.", [*labels, "outcome"], registry=where
        )
        self._errors = Counter(
            "onnxpuma_errors",
            "Requests that have failed, by the class of the error.",
            ["error"],
            registry=where,
        )
        self._seconds = Histogram(
            "onnxpuma_request_seconds",
            "From the arrival of a request to its result.",
            ["model"],
            buckets=SECONDS,
            registry=where,
        )
        self._computed = Histogram(
            "onnxpuma_computing_seconds",
            "From the beginning of a run to its end.",
            ["model"],
            buckets=SECONDS,
            registry=where,
        )
        self._waited = Histogram(
            "onnxpuma_waiting_seconds",
            "From the arrival of a request to its beginning.",
            buckets=SECONDS,
            registry=where,
        )
        self._sent = Counter(
            "onnxpuma_sent_bytes", "Bytes that requests sent to the other servers.", registry=where
        )
        self._rounds = Counter("onnxpuma_rounds", "Rounds that requests took.", registry=where)

        def gauge(name: str, text: str, value: Callable[[wire_pb2.Status], float]) -> Gauge:
            made = Gauge(f"onnxpuma_{name}", text, registry=where)
            made.set_function(lambda: value(status()))
            return made

        gauge("queue", "Requests that wait.", lambda s: s.waiting)
        gauge("running", "Requests that run.", lambda s: s.running)
        gauge("plans", "Plans in the cache.", lambda s: s.plans)
        gauge("kept_bytes", "Bytes of shares that stay between requests.", lambda s: s.kept_bytes)
        gauge("memory_bytes", "Memory that the process takes.", lambda s: s.memory_bytes)
        gauge("connections", "Connections of clients.", lambda s: s.connections)
        gauge("peers", "Other servers that are connected.", lambda s: sum(p.connected for p in s.peers))
        gauge("ready", "1 if requests can run.", is_ready)
        state = Gauge("onnxpuma_state", "1 for the state that the server is in.", ["state"], registry=where)
        for name in STATES:
            state.labels(name).set_function(partial(_is_in, status, name))

    def count(self, entry: Entry) -> None:
        """Count a request that has ended."""
        by = [entry.kind, entry.model, *([entry.client] if self._clients else [])]
        failed = entry.outcome not in (DONE, LEFT)
        self._requests.labels(*by, "failed" if failed else entry.outcome).inc()
        if failed:
            self._errors.labels(entry.outcome).inc()
        if entry.kind != "run":
            return
        if entry.waited is not None:
            self._waited.observe(entry.waited)
        if entry.outcome == DONE:
            self._seconds.labels(entry.model).observe(entry.seconds)
            self._computed.labels(entry.model).observe(entry.computed)
            self._sent.inc(entry.sent)
            self._rounds.inc(entry.rounds)

    def text(self) -> bytes:
        """All figures, in Prometheus's format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


def is_ready(status: wire_pb2.Status) -> bool:
    """Whether a server that stands like this can run requests: its model is loaded, its peers are there."""
    return status.state in ("idle", "running")


def _is_in(status: Callable[[], wire_pb2.Status], state: str) -> float:
    return float(status().state == state)
