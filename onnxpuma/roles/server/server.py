"""A computing party: its shares of the weights, a link to its peers, a port for clients."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

from onnxpuma import __version__
from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.ring.native import native, warn_once
from onnxpuma.roles.request.network import network_of, told
from onnxpuma.roles.server.identity import Identity
from onnxpuma.roles.server.loading import load_graphs
from onnxpuma.roles.server.machine import neighbours, spare_bytes
from onnxpuma.roles.server.reception import Served
from onnxpuma.roles.server.request_loop import RequestLoop
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares, strange_files
from onnxpuma.roles.shared.weights import open_shares
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import FIRST_MESSAGE_SECONDS, ClientPort
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.descriptors import require_descriptors
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.gate import Bounds
from onnxpuma.transport.line import Peer
from onnxpuma.transport.refusal import tell_refusal
from onnxpuma.transport.zeromq import PeerLink

DESCRIPTORS = 100  # open files and sockets of a server with a few clients
REFUSAL_SECONDS = 3.0  # how long a server that cannot start waits for peers to tell
# A client renews the connections that it uses; a server cuts off the others at twice that age.
RENEWED_HERE = 2.0

_log = logging.getLogger("onnxpuma.roles")


class Server:
    """Party `party` (0, 1 or 2) of the cluster, serving the shared model in `model_dir`.

    keys: this party's own key pair. Raises ConfigError if `config` names another. memory: bytes for the
    weights; None: as `config` says.
    """

    def __init__(
        self,
        party: int,
        config: ClusterConfig,
        keys: KeyPair,
        model_dir: str | Path,
        memory: int | None = None,
    ) -> None:
        if config.parties[party].public_key != keys.public:
            raise ConfigError(
                f"this secret key belongs to the public key {keys.public}, not to party {party}",
                "start the party whose key this is, or correct its public key in cluster.toml",
            )
        self.party, self.config = party, config
        self._keys = keys
        self._folder = Path(model_dir)
        self._memory = memory or round(config.memory.gigabytes * 1e9) or None

    def serve(self, ready: Callable[[], None] | None = None, stop: Event | None = None) -> None:
        """Load the weights, meet the two other parties, then serve requests until `stop` is set.

        ready: called once, when both peers are there and hold the same model. A stop takes effect within
        0.5 s between requests, and within a request at its next round.

        Raises PlanError for an unusable model folder and when both peers serve another model, ConfigError for
        a port in use, too low a limit of open files and too little memory, AuthenticationError when a peer
        refuses this party's key. It then tells the peers why, which takes a few seconds if one is not there.
        After `ready` only a stop ends it: peers and clients may come and go.
        """
        require_descriptors(DESCRIPTORS, raised=True)
        stop = stop or Event()
        try:
            self._serve(ready, stop)
        except Exception as error:
            self._refuse(error, stop)
            raise

    @property
    def _peers(self) -> dict[int, Peer]:
        return {
            i: Peer(other.peer_address, other.public_key)
            for i, other in enumerate(self.config.parties)
            if i != self.party
        }

    def _refuse(self, error: Exception, stop: Event) -> None:
        """Tell the peers why this server does not start, without the paths of its files."""
        failure, timeouts = failure_of(error), self.config.timeouts
        failure.message = failure.message.replace(f"{self._folder}{os.sep}", "")
        failure.message = failure.message.replace(str(self._folder), "its model folder")
        tell_refusal(
            self.party,
            self._keys,
            self._peers,
            failure,
            seconds=min(timeouts.connect, REFUSAL_SECONDS),
            heartbeat=timeouts.heartbeat,
            stop=stop,
        )

    def _warn_of_strange_files(self) -> None:
        """On one machine the parties use one folder, and nothing is protected from its owner."""
        apart = len({party.host for party in self.config.parties}) > 1
        if apart and (names := strange_files(self._folder, self.party)):
            _log.warning(
                "party %d must not have %s: with its own files they tell the weights; remove them from %s",
                self.party,
                " and ".join(names),
                self._folder,
            )

    def _serve(self, ready: Callable[[], None] | None, stop: Event) -> None:
        ring.set_threads(self.config.threads.compute or os.cpu_count() or 1)
        model = SharedModel.read(self._folder)
        self._warn_of_strange_files()
        network = network_of(self.config.network)
        spare = spare_bytes(neighbours(self.config, self.party))
        place = model.residence(self._memory or spare, firm=self._memory is not None)
        with closing(open_shares(self._folder, self.party, model)) as shares:
            graphs = load_graphs(model, shares, place, network)
            self._work(model, shares, graphs, network, ready, stop)

    def _work(
        self,
        model: SharedModel,
        shares: Shares,
        graphs: dict[bytes, Served],
        network: Network,
        ready: Callable[[], None] | None,
        stop: Event,
    ) -> None:
        place, timeouts, limits = self.config.parties[self.party], self.config.timeouts, self.config.limits
        status = wire_pb2.Status(
            version=__version__,
            model_digest=bytes.fromhex(model.digest),
            party=self.party,
            state="starting",
            network=told(network),
        )
        identity = Identity(
            self.party, __version__, model.digest, shares.dealing, shares.contents, shares.seals, network
        )
        bounds = Bounds(
            limits.connections,
            limits.message_megabytes * 1_000_000,
            max(FIRST_MESSAGE_SECONDS, timeouts.heartbeat),
            RENEWED_HERE * timeouts.renew,
        )
        clients = {key: name for name, key in self.config.clients.items()}
        with (
            PeerLink(
                self.party,
                self._keys,
                place.peer_listen,
                self._peers,
                timeout=timeouts.request,
                heartbeat=timeouts.heartbeat,
                io_threads=self.config.threads.io,
                version=identity.version,
                model_digest=identity.model_digest,
                components={peer: identity.code(self.party, peer) for peer in self._peers},
                network=told(network),
            ) as link,
            ClientPort(
                self._keys, place.client_listen, clients, status, heartbeat=timeouts.heartbeat, bounds=bounds
            ) as port,
        ):
            loop = RequestLoop(self.config, link, port, graphs, identity, model.menu(), stop)
            loop.serve(lambda: _begin(ready))
            status.state = "stopping"


def _begin(ready: Callable[[], None] | None) -> None:
    if native() is None:
        warn_once()
    if ready is not None:
        ready()
