"""The interface for Python users: a session like onnxruntime's that computes on secret shares."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np

from onnxpuma.config import ClusterConfig, NetworkConfig, read_cluster
from onnxpuma.errors import ConfigError, InputError
from onnxpuma.graph.folder import ONLY_GRAPH
from onnxpuma.observe import Progress
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.client.bar import counted
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.client.keys import client_keys
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.client.node_arg import ModelMetadata, NodeArg, node_arg
from onnxpuma.roles.client.rows import alike, batched_inputs, check_size, joined, parted, pieces
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.request.canary_file import Canaries
from onnxpuma.roles.request.feed import check_feed
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport.curve import KeyPair

PROVIDER = "OnnxpumaExecutionProvider"

Callback: TypeAlias = Callable[[list[np.ndarray], Any, str], object]

_log = logging.getLogger("onnxpuma.session")


class InferenceSession:
    """Run a model at three servers that learn neither its weights nor the data.

    model: an ONNX file, a folder of the ONNX files that form one model, or the folder of a shared model;
        three processes on this machine serve it. With `cluster`: None; the name of one of the servers'
        models, if they have several; or the folder of its blueprint, to insist on exactly that model.
    cluster: cluster.toml, or its path; its servers have the model already.
    key: the client's key pair or `.secret` file; by default `client.secret` beside cluster.toml.
    threads: of each local server.
    graph: the one that this session runs, if the model has several; `roles.client.Client` runs them all.
    public_inputs: names or patterns of inputs that the servers may see. A model shared here is shared with
        these public; one shared elsewhere shows no others (but masks, positions and the like:
        client/consent.py).
    network: between the servers of a model that runs here; they plan for it. By default the usual one.
    calibrate: feeds from which a model shared here gets its ranges; by graph, if it has several.
        `onnxpuma.tasks.calibration` makes them from texts, pictures and recordings.
    canaries: a file of requests with known answers, which the model's owner made for clients of these
        servers, or how to mix them; `rate` of them ride beside each request. A wrong answer raises a
        CanaryError, and what an audit needs is stored in the current folder.

    Raises ConfigError, ModelError and PlanError when an argument is wrong, TransportError when the servers
    cannot be reached.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        cluster: ClusterConfig | str | Path | None = None,
        key: KeyPair | str | Path | None = None,
        threads: int = 1,
        graph: str | None = None,
        public_inputs: Sequence[str] = (),
        network: NetworkConfig | None = None,
        calibrate: Samples | Mapping[str, Samples] | None = None,
        canaries: str | Path | Mixing | None = None,
        rate: float = 0.05,
    ) -> None:
        self._graph = graph
        self._at = str(model) if cluster is None else "a cluster"
        self._thread: ThreadPoolExecutor | None = None
        self._local: LocalCluster | None = None
        # Of the latest `run`: timings and the servers' reports.
        self.outcome: Outcome | None = None
        if cluster is None:
            if model is None:
                raise ConfigError("neither a model nor a cluster was given", "pass an .onnx file or cluster=")
            if canaries is not None:
                raise ConfigError("canaries are for servers elsewhere", "pass cluster=, or no canaries")
            samples = None if calibrate is None else _by_graph(calibrate)
            self._local = LocalCluster(
                model, threads, public_inputs=public_inputs, samples=samples, network=network
            )
            self._client = self._local.client()
        else:
            if network is not None:
                raise ConfigError(
                    "network does not go with `cluster`: its servers have settled it",
                    "write it into [network] of their cluster.toml",
                )
            if calibrate is not None:
                raise ConfigError(
                    "calibrate does not go with `cluster`: its servers have the model already",
                    "the owner calibrates a model when sharing it: onnxpuma share --calibrate",
                )
            config = cluster if isinstance(cluster, ClusterConfig) else read_cluster(Path(cluster))
            named = isinstance(model, str) and not Path(model).is_dir()
            self._client = Client(
                config,
                client_keys(key, cluster),
                None if model is None or named else SharedModel.read(Path(model)),
                public_inputs=public_inputs,
                model_name=str(model) if named else "",
                mixing=_mixing(canaries, rate),
            )

    def __repr__(self) -> str:
        if not self._client.fetched:
            return f"<InferenceSession at {self._client!r}>"
        takes, gives = (_listed(every) for every in (self.get_inputs(), self.get_outputs()))
        return f"<InferenceSession of {self._at}: {takes} -> {gives}>"

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs, in order, without those that may be left out."""
        specs = self._client.model.graph(self._graph).inputs.values()
        return [node_arg(s.name, s.shape, s.dtype) for s in specs if s.default is None]

    def get_outputs(self) -> list[NodeArg]:
        """The model's own outputs, in order, without `next_token`."""
        blueprint = self._client.model.graph(self._graph)
        kinds = [(name, blueprint.outputs[name]) for name in blueprint.own_outputs]
        return [node_arg(name, kind.shape or (), kind.dtype) for name, kind in kinds]

    def get_modelmeta(self) -> ModelMetadata:
        """What is known of the model: the name of its graph and its digest. Texts of its exporter are not
        shared."""
        blueprint = self._client.model.graph(self._graph)
        name = next(name for name, each in self._client.model.graphs.items() if each is blueprint)
        return ModelMetadata(graph_name=name, custom_metadata_map={"digest": blueprint.digest})

    def get_providers(self) -> list[str]:
        """As onnxruntime names what computes."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """There are none."""
        return {PROVIDER: {}}

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """The named outputs (None: the model's own), in that order. Raises the errors of `Client.run`."""
        if not isinstance(input_feed, Mapping):
            raise InputError("input_feed is not a mapping", "call run(output_names, {'input': array})")
        self.outcome = self._client.run(input_feed, output_names, progress, graph=self._graph)
        return [self.outcome.outputs[name] for name in output_names or self.outcome.outputs]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callback,
        user_data: Any,
    ) -> None:
        """The same in the background, one request after the other: calls callback(outputs, user_data, error)
        in another thread, with an empty list and a text after an error. `close` waits for all of them."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "onnxpuma-session")
        self._thread.submit(self._told, output_names, input_feed, callback, user_data)

    def run_many(
        self,
        feeds: Iterable[Mapping[str, Any]],
        output_names: Sequence[str] | None = None,
        *,
        batch_size: int = 16,
        progress: bool | None = None,
    ) -> Generator[list[np.ndarray]]:
        """The outputs of each feed, in order, as `run` returns them; `batch_size` feeds share a run.

        feeds: read only as far as results are taken. Those of one batch that differ in more than their rows
        run one after the other: nothing is padded. progress: a bar on stderr; None shows it at a terminal.
        Cost: a batch takes the rounds of a single feed. `outcome` is that of the latest batch.

        Raises InputError for a model without a batch axis or with kept values in a feed, ModelError for an
        output without it, and the errors of `run`.
        """
        count = check_size(batch_size)
        total = len(feeds) if isinstance(feeds, Sized) else None
        return self._each(pieces(feeds, count), total, output_names, progress)

    def run_with_iobinding(self, *_: object) -> NoReturn:
        """Refused, as `io_binding`."""
        self.io_binding()

    def io_binding(self) -> NoReturn:
        """Refused: there is no device on which inputs or outputs could lie."""
        raise InputError(
            "there is no IOBinding: inputs leave as shares, and outputs are put together from shares",
            "call run(output_names, {'input': array}); onnxpuma.Client keeps values at the servers",
        )

    def close(self) -> None:
        """Disconnect from the servers, and stop those on this machine."""
        if self._thread is not None:
            self._thread.shutdown()
        self._client.close()
        if self._local is not None:
            self._local.close()

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _told(
        self, names: Sequence[str] | None, feed: Mapping[str, Any], callback: Callback, user_data: Any
    ) -> None:
        found: list[np.ndarray] = []
        wrong = ""
        try:
            found = self.run(names, feed)
        except Exception as error:  # onnxruntime hands every error to the callback as well
            wrong = str(error)
        try:
            callback(found, user_data, wrong)
        except Exception:
            _log.exception("the callback of run_async has failed")

    def _each(
        self,
        batches: Iterable[list[Mapping[str, Any]]],
        total: int | None,
        names: Sequence[str] | None,
        progress: bool | None,
    ) -> Generator[list[np.ndarray]]:
        blueprint = self._client.model.graph(self._graph)
        inputs = {name: spec.shape for name, spec in blueprint.inputs.items() if spec.default is None}
        batched = batched_inputs(inputs)
        with counted("run_many", total, progress) as advance:
            for batch in batches:
                feeds = [_arrays(blueprint, feed) for feed in batch]
                found: dict[int, list[np.ndarray]] = {}
                for places in alike(feeds, batched):
                    parts = [feeds[place] for place in places]
                    arrays = self.run(names, joined(parts, batched))
                    by_name = dict(zip(names or blueprint.own_outputs, arrays, strict=True))
                    rows = parted(by_name, [part[batched[0]].shape[0] for part in parts])
                    for place, each in zip(places, rows, strict=True):
                        found[place] = list(each.values())
                advance(len(batch))
                yield from (found[place] for place in range(len(batch)))


def _arrays(blueprint: Blueprint, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    checked = check_feed(blueprint, feed)
    if any(isinstance(value, Kept) for value in checked.values()):
        raise InputError("a feed holds a value kept at the servers", "run such feeds one by one, with `run`")
    return {name: np.asarray(value) for name, value in checked.items()}


def _mixing(canaries: str | Path | Mixing | None, rate: float) -> Mixing | None:
    if canaries is None or isinstance(canaries, Mixing):
        return canaries
    return Mixing(Canaries.read(Path(canaries)), rate)


def _listed(every: Sequence[NodeArg]) -> str:
    return ", ".join(f"{each.name} {each.type} {each.shape}" for each in every)


def _by_graph(given: Any) -> dict[str, Samples]:
    if not isinstance(given, Mapping):
        return {ONLY_GRAPH: _feeds(given)}
    if not given or any(isinstance(value, np.ndarray) for value in given.values()):
        raise InputError("calibrate is not a list of feeds", "pass calibrate=[{'input': array}, ...]")
    return {str(graph): _feeds(samples) for graph, samples in given.items()}


def _feeds(given: Any) -> Samples:
    if not hasattr(given, "__iter__") or isinstance(given, (str, bytes, np.ndarray)):
        raise InputError(
            f"calibrate is a {type(given).__name__}", "pass feeds: calibrate=[{'input': array}, ...]"
        )
    for place, feed in enumerate(given if isinstance(given, Sequence) else ()):
        if not isinstance(feed, Mapping):
            raise InputError(
                f"calibrate[{place}] is a {type(feed).__name__}",
                "pass arrays by input name; onnxpuma.tasks.calibration makes them from texts",
            )
    samples: Samples = given
    return samples
