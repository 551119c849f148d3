"""A model at three servers, which learn neither its weights nor its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnxpuma.config import ClusterConfig, NetworkConfig, read_cluster
from onnxpuma.errors import OnnxpumaError, UnreliableError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.client.client import Client, Dealt, Outcome, Watch
from onnxpuma.roles.client.keys import client_keys
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.request.receipt import Receipt
from onnxpuma.tasks.cache import hides_front
from onnxpuma.tasks.port import KeptValue, Port, Result, Run, Signature, Usage
from onnxpuma.transport.curve import KeyPair


class SecureRunner:
    """Runs the graphs that the servers of `client` have. `close` also stops `servers`, if they run here."""

    def __init__(self, client: Client, servers: LocalCluster | None = None) -> None:
        self.usage = Usage()
        self.watch: Watch | None = None  # called during a run, as by `Client.run`
        self.dealt: Dealt | None = None  # called before a run, as by `Client.run`
        self.signed: Callable[[Receipt], None] | None = None  # called after a run that servers signed
        self._client = client
        self._servers = servers
        self._graphs: dict[str, Signature] = {}

    def another(self) -> SecureRunner:
        """A further connection to the same servers, which shares the plans of this one."""
        return SecureRunner(self._client.another())

    @property
    def graphs(self) -> Mapping[str, Signature]:
        """The graphs by name. Raises PlanError if the servers have different models, TransportError if they
        cannot be reached."""
        if not self._graphs:
            self._graphs = {name: _signature(graph) for name, graph in self._client.graphs.items()}
        return self._graphs

    @property
    def node_names(self) -> list[str]:
        """The names of all nodes, to which the labels of `watch` refer. Raises as `graphs`."""
        return [node.name for graph in self._client.graphs.values() for node in graph.graph.nodes]

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each graph's public part, on which client and servers agree. Raises as `graphs`."""
        return {name: graph.digest for name, graph in self._client.graphs.items()}

    def run(self, run: Run) -> Result:
        """Raises the errors of `Client.run`; values kept by an unreliable run are released."""
        try:
            outcome = self._client.run(
                run.feed,
                list(run.outputs),
                graph=run.graph,
                keep=run.keep,
                release=run.release,
                watch=self.watch,
                dealt=self.dealt,
            )
        except UnreliableError as error:
            if isinstance(error.outcome, Outcome):
                self.release(list(error.outcome.kept.values()))
            raise
        self.usage.requests += 1
        self.usage.seconds += outcome.seconds
        self.usage.setup_seconds += outcome.setup_seconds
        self.usage.bytes_sent += sum(report.bytes_sent for report in outcome.reports)
        self.usage.rounds += max(report.rounds for report in outcome.reports)
        if self.signed is not None and outcome.receipt is not None:
            self.signed(outcome.receipt)
        return Result(outcome.outputs, outcome.kept)

    def release(self, kept: Sequence[KeptValue]) -> None:
        """Tell the servers to drop these values; servers that are gone or busy let them expire."""
        try:
            self._client.release(kept)
        except OnnxpumaError:
            return

    def close(self) -> None:
        self._client.close()
        if self._servers is not None:
            self._servers.close()


def on_this_machine(
    model: str | Path,
    threads: int = 1,
    public_inputs: Sequence[str] = (),
    samples: Mapping[str, Samples] | None = None,
    network: NetworkConfig | None = None,
) -> SecureRunner:
    """Share `model` (a folder of ONNX files or of a shared model, or one file) among three processes here.

    public_inputs, samples, network: as for `LocalCluster`, whose errors it raises.
    """
    servers = LocalCluster(model, threads, public_inputs=public_inputs, samples=samples, network=network)
    try:
        return SecureRunner(servers.client(), servers)
    except BaseException:
        servers.close()
        raise


def at_servers(
    cluster: ClusterConfig | str | Path,
    key: KeyPair | str | Path | None = None,
    public_inputs: Sequence[str] = (),
    model_name: str = "",
    mixing: Mixing | None = None,
) -> SecureRunner:
    """The model that the servers of cluster.toml have; of several the one of this name.

    key: as for `client_keys`. public_inputs: inputs that the servers may see, as for `Client`. mixing:
    canaries among the requests.

    Raises ConfigError if an argument is wrong.
    """
    config = cluster if isinstance(cluster, ClusterConfig) else read_cluster(Path(cluster))
    keys = client_keys(key, cluster)
    return SecureRunner(
        Client(config, keys, public_inputs=public_inputs, model_name=model_name, mixing=mixing)
    )


def _signature(graph: Blueprint) -> Signature:
    ports = {name: Port(name, spec.dtype, spec.shape) for name, spec in graph.inputs.items()}
    return Signature(ports, tuple(graph.outputs), hides_front(graph))
