"""The interface for Python users: a session like onnxruntime's that computes on secret shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.config import ClusterConfig, read_cluster
from onnxpuma.errors import ConfigError, InputError
from onnxpuma.graph.folder import ONLY_GRAPH
from onnxpuma.observe import Progress
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.client.keys import client_keys
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport.curve import KeyPair


@dataclass(frozen=True)
class NodeArg:
    """An input or output, described as by onnxruntime."""

    name: str
    shape: list[int | str | None]  # symbols for lengths that vary
    type: str


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
    calibrate: feeds from which a model shared here gets its ranges; by graph, if it has several.
        `onnxpuma.tasks.calibration` makes them from texts, pictures and recordings.

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
        calibrate: Samples | Mapping[str, Samples] | None = None,
    ) -> None:
        self._graph = graph
        self._local: LocalCluster | None = None
        # Of the latest `run`: timings and the servers' reports.
        self.outcome: Outcome | None = None
        if cluster is None:
            if model is None:
                raise ConfigError("neither a model nor a cluster was given", "pass an .onnx file or cluster=")
            samples = None if calibrate is None else _by_graph(calibrate)
            self._local = LocalCluster(model, threads, public_inputs=public_inputs, samples=samples)
            self._client = self._local.client()
        else:
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
            )

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs, in order, without those that may be left out."""
        specs = self._client.model.graph(self._graph).inputs.values()
        return [NodeArg(s.name, list(s.shape), _type(s.dtype)) for s in specs if s.default is None]

    def get_outputs(self) -> list[NodeArg]:
        """The model's own outputs, in order, without `next_token`."""
        blueprint = self._client.model.graph(self._graph)
        kinds = [(name, blueprint.outputs[name]) for name in blueprint.own_outputs]
        return [NodeArg(name, list(kind.shape or ()), _type(kind.dtype)) for name, kind in kinds]

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

    def close(self) -> None:
        """Disconnect from the servers, and stop those on this machine."""
        self._client.close()
        if self._local is not None:
            self._local.close()

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def _type(dtype: np.dtype[Any]) -> str:
    names = {"float32": "float", "float64": "double", "bool": "bool", "object": "string"}
    return f"tensor({names.get(dtype.name, dtype.name)})"
