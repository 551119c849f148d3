"""One request of a client: planned, shared, sent to three servers, and put together from what they return."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.config import ClusterConfig
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.client.complaint import Sent, complain
from onnxpuma.roles.client.news import Watch, told
from onnxpuma.roles.client.outcome import Outcome, opened_outcome
from onnxpuma.roles.client.receipt import taken_receipt
from onnxpuma.roles.request.ahead import Ahead
from onnxpuma.roles.request.feed import check_outputs, check_values
from onnxpuma.roles.request.kept import HANDLE_BYTES, Kept
from onnxpuma.roles.request.message import deal_inputs, public_part
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.request.question import Question
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.link import Buffer

Dealt: TypeAlias = Callable[[Plan, Sequence[Sequence[Buffer]]], None]


@dataclass(frozen=True)
class Wanted:
    """A request as its caller states it: the arguments of `Client.run`."""

    feed: Mapping[str, Any] = field(repr=False)
    output_names: Sequence[str] | None = None
    watch: Watch | None = None
    timeout: float | None = None
    dealt: Dealt | None = None
    graph: str | None = None
    keep: Sequence[str] = ()
    release: Sequence[Kept] = ()
    public_inputs: Sequence[str] = ()
    commitment: bytes = b""  # of a client that uses canaries
    sent: Sent | None = None  # takes in what left and came back


class Asking:
    """Sends the requests of one client over one connection, one at a time."""

    def __init__(self, cluster: Cluster, config: ClusterConfig, client_key: str, model: str) -> None:
        """client_key: public. model: its name at the servers."""
        self._cluster, self._config, self._key, self._model = cluster, config, client_key, model
        self._ahead = Ahead()
        cluster.meanwhile = self._ahead.go_on
        self.lock = Lock()

    def run(
        self, plans: Plans, fed: Mapping[str, np.ndarray | Kept], wanted: Wanted, begin: float
    ) -> Outcome:
        """The answer to a request with this feed, which is checked. begin: when the caller asked, of
        `perf_counter`. Raises as `Client.run`."""
        opened, kept = check_outputs(plans.blueprint, wanted.output_names, wanted.keep)
        question = _question(plans, fed, opened, kept)
        plan = plans.get(question.shapes, question.public, question.selection)
        values = plan.client_values({n: v for n, v in fed.items() if not isinstance(v, Kept)})
        check_values(plan, values)
        handle = os.urandom(HANDLE_BYTES) if kept else b""
        selection = Selection(opened, kept)
        body, public = public_part(plans.blueprint, plan, fed, selection, handle, wanted.release)
        body.model, body.commitment = self._model, wanted.commitment
        private = deal_inputs(plan, values)
        if wanted.dealt is not None:
            wanted.dealt(plan, private)
        log = wanted.sent or Sent()
        log.body, log.public, log.private, log.terms = body, public, private, len(plan.opened)
        sent = time.perf_counter()
        with self.lock:
            news = None if wanted.watch is None else told(wanted.watch)
            held = [value.handle for value in fed.values() if isinstance(value, Kept)]
            self._ahead.saw(plans, question, handle, held)
            try:
                log.answers = self._cluster.request(body, public, private, timeout=wanted.timeout, news=news)
            finally:
                log.id = self._cluster.latest
        seconds = time.perf_counter() - sent
        signers = self._config.signers
        answers, receipt = taken_receipt(log.answers, signers, log.terms, self._key, body, public, private)
        return opened_outcome(plan, answers, values, selection, handle, receipt, seconds, sent - begin)

    def complain(self, sent: Sent, folder: Path, error: str) -> tuple[Path, list[str]]:
        """Open the commitment of a canary, as client/complaint.py says."""
        with self.lock:
            return complain(self._cluster, self._config, self._key, sent, folder, error)


def plan_of(
    plans: Plans, fed: Mapping[str, np.ndarray | Kept], opened: tuple[str, ...], kept: tuple[str, ...] = ()
) -> Plan:
    """The plan of a request with this feed. Raises InputError, UnsupportedModelError."""
    question = _question(plans, fed, opened, kept)
    return plans.get(question.shapes, question.public, question.selection)


def _question(
    plans: Plans, fed: Mapping[str, np.ndarray | Kept], opened: tuple[str, ...], kept: tuple[str, ...]
) -> Question:
    shapes = {name: tuple(value.shape) for name, value in fed.items()}
    held = tuple(name for name, value in fed.items() if isinstance(value, Kept))
    public = {name: fed[name] for name in plans.blueprint.public_inputs}
    return Question(shapes, public, Selection(opened, kept, held))  # type: ignore[arg-type]
