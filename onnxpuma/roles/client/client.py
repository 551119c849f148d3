"""The owner of the data: checks an input, shares it among the three servers and opens what they return."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError, OnnxpumaError, PlanError
from onnxpuma.mpc.cost import Network
from onnxpuma.observe import Progress
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.client.agreed import agreed_model, agreed_network, check_signing
from onnxpuma.roles.client.asking import Asking, Wanted, plan_of
from onnxpuma.roles.client.asking import Dealt as Dealt
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.consent import check_consent, check_named
from onnxpuma.roles.client.mixing import Mixing, Ridden
from onnxpuma.roles.client.news import Watch, relay
from onnxpuma.roles.client.outcome import Outcome as Outcome
from onnxpuma.roles.request.canary_file import Canary
from onnxpuma.roles.request.commitment import commitment_of, unopenable
from onnxpuma.roles.request.feed import check_feed, check_outputs
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.message import held_entries
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import Cluster
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.line import Peer


class Client:
    """Sends requests to the servers of `config` as the owner of `keys`, one at a time.

    It connects in the background. Raises ConfigError for a malformed address.
    """

    def __init__(
        self,
        config: ClusterConfig,
        keys: KeyPair,
        # The shared model of these servers, or the blueprint of its only graph; None fetches it at first use.
        model: SharedModel | Blueprint | None = None,
        *,
        # Names of inputs, or patterns on them, that the servers may see if the owner made them public. Masks,
        # positions and the like need no mention (client/consent.py).
        public_inputs: Sequence[str] = (),
        model_name: str = "",  # of several at these servers; empty: the only one
        halt: Event | None = None,  # another thread sets it to end a request with a CancelledError
        mixing: Mixing | None = None,  # canaries that ride beside requests
    ) -> None:
        if isinstance(model, str):
            raise ConfigError(f"model is the text '{model}'", f"a model's name is model_name='{model}'")
        self._config, self._keys = config, keys
        timeouts = config.timeouts
        places = [Peer(party.client_address, party.public_key) for party in config.parties]
        self._cluster = Cluster(
            places,
            keys,
            connect_timeout=timeouts.connect,
            timeout=timeouts.request,
            heartbeat=timeouts.heartbeat,
            renew=timeouts.renew,
            drain=timeouts.drain,
            halt=halt,
        )
        self._model_name = model_name
        self._asking = Asking(self._cluster, config, keys.public, model_name)
        self._model = SharedModel.of(model) if isinstance(model, Blueprint) else model
        self._network: Network | None = None
        self._plans: dict[str, Plans] = {}
        self._public_inputs = tuple(public_inputs)
        self._mixing = mixing

    def __repr__(self) -> str:
        return f"<Client of {', '.join(party.name for party in self._config.parties)}>"

    def another(self, halt: Event | None = None) -> Client:
        """A further connection of this client, for a request beside this one's; they share their plans."""
        made = Client(
            self._config,
            self._keys,
            self._model,
            public_inputs=self._public_inputs,
            model_name=self._model_name,
            halt=halt,
            mixing=self._mixing,
        )
        made._network, made._plans = self._network, self._plans
        return made

    @property
    def fetched(self) -> bool:
        """Whether `model` is known here, so that reading it asks no server."""
        return self._model is not None

    @property
    def model(self) -> SharedModel:
        """The public part of the model, fetched at first use. PlanError when the servers' copies differ,
        InputError when they have no model of this name or several without a name given."""
        if self._model is None:
            with self._asking.lock:
                answers = self._cluster.request(wire_pb2.Request(model=self._model_name), [], [[], [], []])
            self._model = agreed_model([[bytes(b) for b in answer.buffers] for answer in answers])
        return self._model

    @property
    def model_names(self) -> list[str]:
        """The names of all models at these servers; of an only one perhaps empty. Raises TransportError."""
        answers = self.status()
        for answer in answers:
            if isinstance(answer, OnnxpumaError):
                raise answer
        return [model.name for model in answers[0].models]  # type: ignore[union-attr]

    @property
    def graphs(self) -> dict[str, Blueprint]:
        """The graphs of the model by name. Raises as `model`."""
        return dict(self.model.graphs)

    @property
    def blueprint(self) -> Blueprint:
        """The only graph of the model. Raises as `model`, and InputError where there are several."""
        return self.model.blueprint

    @property
    def network(self) -> Network:
        """The network for which the servers plan, fetched at first use. PlanError when they disagree."""
        if self._network is None:
            self._network = self._asked_network()
        return self._network

    def plan(
        self, feed: Mapping[str, Any], *, graph: str | None = None, public_inputs: Sequence[str] = ()
    ) -> Plan:
        """The plan that a request with this feed would run. Raises InputError and TransportError as `run`."""
        plans = self._known(graph)
        opened, _ = check_outputs(plans.blueprint, None)
        return plan_of(plans, self._fed(plans.blueprint, feed, public_inputs), opened)

    def run(
        self,
        feed: Mapping[str, Any],  # input -> array, or handle of a kept value
        output_names: Sequence[str] | None = None,  # to open; None: the model's own, or none if some are kept
        progress: Progress | None = None,
        timeout: float | None = None,  # seconds to wait for the result; None: as cluster.toml says
        dealt: Dealt | None = None,  # for demonstrations: receives the plan and each server's private buffers
        *,
        graph: str | None = None,  # required if the model has several
        keep: Sequence[str] = (),  # outputs that stay at the servers; `Outcome.kept` has their handles
        release: Iterable[Kept] = (),  # kept values that nobody needs after this run
        public_inputs: Sequence[str] = (),  # inputs that the servers may see, besides the constructor's
        watch: Watch | None = None,  # the same as `progress`, and what server 0 has sent and how long it took
    ) -> Outcome:
        """Run the model on `feed` at the three servers, which compute only what these outputs need.

        Raises InputError for a feed that does not fit (see `check_feed`), for an input that the servers would
        see without the client's consent (see `check_consent`) and for a kept value that the servers no longer
        hold; PlanError when client and servers have different models, versions or plans;
        UnsupportedModelError when the model cannot run at these shapes; UnreliableError, with the outcome,
        when a value left its range during the run; ReceiptError when a receipt is missing or does not fit;
        TransportError when the servers cannot be reached, fail or take too long.
        """
        news = watch if progress is None else relay(progress)
        request = Wanted(
            feed, output_names, news, timeout, dealt, graph, keep, tuple(release), tuple(public_inputs)
        )
        mixing = self._mixing
        if mixing is None:
            return self._tried(request)
        fed = self._fed(self.model.graph(graph), feed, public_inputs)
        ridden = mixing.ridden(self.model, fed, request, self._config)
        committed = replace(request, commitment=unopenable())
        return mixing.beside(self, ridden, lambda: self._tried(committed))

    def probe(self, canary: Canary, ridden: Ridden, sent: Sent) -> Outcome:
        """Run a canary as if it were a request like `ridden`; `sent` takes in what left and came back. Raises
        as `run`."""
        wanted = Wanted(
            canary.feed,
            ridden.opened,
            graph=ridden.graph,
            keep=ridden.keep,
            public_inputs=ridden.public_inputs,
            commitment=commitment_of(sent.opening),
            sent=sent,
        )
        outcome = self._tried(wanted)
        with suppress(OnnxpumaError):  # what stays expires
            self.release(outcome.kept.values())
        return outcome

    def complain(self, sent: Sent, folder: Path, error: str = "") -> tuple[Path, list[str]]:
        """Have the servers hand over the session of a canary, and store what an audit needs, as
        client/complaint.py says."""
        return self._asking.complain(sent, folder, error)

    def _tried(self, request: Wanted) -> Outcome:
        try:
            return self._once(request)
        except PlanError:
            if not self._replaced_network():
                raise
        return self._once(request)

    def _once(self, request: Wanted) -> Outcome:
        begin = time.perf_counter()
        plans = self._known(request.graph)
        fed = self._fed(plans.blueprint, request.feed, request.public_inputs)
        return self._asking.run(plans, fed, request, begin)

    def release(self, kept: Iterable[Kept]) -> None:
        """Make the servers forget these values; values that are gone already do no harm. TransportError when
        the servers cannot be reached."""
        entries = held_entries(kept)
        if entries:
            with self._asking.lock:
                body = wire_pb2.Request(release=entries, model=self._model_name)
                self._cluster.request(body, [], [[], [], []])

    def status(self, timeout: float | None = None) -> list[wire_pb2.Status | OnnxpumaError]:
        """Each server's status, or the error that explains why it sends none."""
        with self._asking.lock:
            return self._cluster.status(timeout)

    def close(self) -> None:
        """Disconnect from the servers."""
        self._cluster.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fed(
        self, blueprint: Blueprint, feed: Mapping[str, Any], public_inputs: Sequence[str]
    ) -> dict[str, np.ndarray | Kept]:
        """The feed, if it fits and the client consents to what the servers see of it. Raises InputError."""
        every = [name for graph in self.model.graphs.values() for name in graph.inputs]
        allowed = (*self._public_inputs, *public_inputs)
        check_named(allowed, every)
        fed = check_feed(blueprint, feed)
        check_consent(blueprint, fed, allowed)
        return fed

    def _known(self, graph: str | None) -> Plans:
        """The plans of a graph; None means the only one. Raises InputError."""
        blueprint = self.model.graph(graph)
        return self._plans.setdefault(blueprint.digest, Plans(blueprint, self.network))

    def _replaced_network(self) -> bool:
        """Whether the servers plan for another network now; a later request then does too."""
        if self._network is None:
            return False
        try:
            now = self._asked_network()
        except OnnxpumaError:
            return False
        if now == self._network:
            return False
        self._network = now
        self._plans.clear()
        return True

    def _asked_network(self) -> Network:
        with self._asking.lock:
            self._cluster.connect()
            answers = self._cluster.status()
        network = agreed_network(answers)
        check_signing(answers, self._config.signers is not None)
        return network
