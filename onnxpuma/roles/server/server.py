"""A computing party: its shares of the weights, a link to its peers, a port for clients."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event

from onnxpuma import __version__
from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.ring.native import native, warn_once
from onnxpuma.roles.request.network import network_of, told
from onnxpuma.roles.server.budgets import AnswerLedger, answer_ledger
from onnxpuma.roles.server.holdings import Holding, check_names, opened, told_models
from onnxpuma.roles.server.identity import Identity
from onnxpuma.roles.server.limits import bounds_of, client_names
from onnxpuma.roles.server.lockstep import lockstep_code
from onnxpuma.roles.server.orders import Orders
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.request_loop import RequestLoop
from onnxpuma.roles.server.standing import Board
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort, Observer
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.descriptors import require_descriptors
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.line import Peer
from onnxpuma.transport.refusal import tell_refusal
from onnxpuma.transport.signing import SUFFIX, SigningKey
from onnxpuma.transport.zeromq import PeerLink

DESCRIPTORS = 100  # open files and sockets of a server with a few clients
REFUSAL_SECONDS = 3.0  # how long a server that cannot start waits for peers to tell

_log = logging.getLogger("onnxpuma.roles")


class Server:
    """Party `party` (0, 1 or 2) of the cluster, serving shared models.

    keys: this party's own key pair. models: the folder of a shared model; or those of several, by the names
    that clients choose them by, the same at all three servers. memory: bytes for the weights of all; None:
    as `config` says. signing: this party's own signing key, required if `config` wants receipts.
    ledger: the file that counts each client's answers, for models with noise on their outputs.

    Raises ConfigError if `config` names another key than this party's, of either kind, and for a model's name
    that cannot be.
    """

    def __init__(
        self,
        party: int,
        config: ClusterConfig,
        keys: KeyPair,
        models: str | Path | Mapping[str, str | Path],
        memory: int | None = None,
        signing: SigningKey | None = None,
        ledger: str | Path | None = None,
    ) -> None:
        if config.parties[party].public_key != keys.public:
            raise ConfigError(
                f"this secret key belongs to the public key {keys.public}, not to party {party}",
                "start the party whose key this is, or correct its public key in cluster.toml",
            )
        self.party, self.config = party, config
        self._signer = _signer_of(party, config, signing)
        self._keys = keys
        folders = models if isinstance(models, Mapping) else {"": models}
        self._folders = {name: Path(folder) for name, folder in folders.items()}
        check_names(self._folders)
        self._ledger = None if ledger is None else Path(ledger)
        self._memory = memory or round(config.memory.gigabytes * 1e9) or None

    def serve(
        self,
        ready: Callable[[], None] | None = None,
        stop: Event | None = None,
        *,
        orders: Orders | None = None,
        board: Board | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Load the weights, meet the two other parties, then serve requests until told to stop or leave.

        ready: called once, when both peers are there and hold the same models. A stop takes effect within
        0.5 s between requests, and within a request at its next round. orders: what its operator tells it, a
        stop included. board: shows how the server stands. observer: follows every request.

        Raises PlanError for an unusable model folder and when both peers serve another model, ConfigError for
        a port in use, too low a limit of open files and too little memory, AuthenticationError when a peer
        refuses this party's key. It then tells the peers why, which takes a few seconds if one is not there.
        After `ready` only an order ends it: peers and clients may come and go.
        """
        require_descriptors(DESCRIPTORS, raised=True)
        orders = orders or Orders(stop=stop or Event())
        try:
            self._serve(ready, orders, board or Board(), observer)
        except Exception as error:
            self._refuse(error, orders.stop)
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
        for folder in self._folders.values():
            failure.message = failure.message.replace(f"{folder}{os.sep}", "")
            failure.message = failure.message.replace(str(folder), "its model folder")
        tell_refusal(
            self.party,
            self._keys,
            self._peers,
            failure,
            seconds=min(timeouts.connect, REFUSAL_SECONDS),
            heartbeat=timeouts.heartbeat,
            stop=stop,
        )

    def _serve(
        self, ready: Callable[[], None] | None, orders: Orders, board: Board, observer: Observer | None
    ) -> None:
        ring.set_threads(self.config.threads.compute or os.cpu_count() or 1)
        network = network_of(self.config.network)
        with opened(self._folders, self.party, self.config, self._memory, network) as holdings:
            graphs = [graph for held in holdings.values() for graph in held.model.graphs.values()]
            with answer_ledger(self._ledger, graphs) as ledger:
                self._work(holdings, network, ready, orders, board, observer, ledger)

    def _work(
        self,
        holdings: Mapping[str, Holding],
        network: Network,
        ready: Callable[[], None] | None,
        orders: Orders,
        board: Board,
        observer: Observer | None,
        ledger: AnswerLedger | None,
    ) -> None:
        place, timeouts = self.config.parties[self.party], self.config.timeouts
        models = told_models(holdings)
        status = wire_pb2.Status(
            version=__version__,
            model_digest=models[0].digest if len(models) == 1 else b"",
            party=self.party,
            state="starting",
            network=told(network),
            models=models,
            signs=self._signer is not None,
        )
        parts = {name: held.part for name, held in holdings.items()}
        identity = Identity(self.party, f"{__version__}+{lockstep_code()}", parts, network)
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
                self._keys,
                place.client_listen,
                client_names(self.config),
                status,
                heartbeat=timeouts.heartbeat,
                bounds=bounds_of(self.config),
                observer=observer,
            ) as port,
        ):
            graphs = {name: held.graphs for name, held in holdings.items()}
            menus = {name: held.model.menu() for name, held in holdings.items()}
            loop = RequestLoop(
                self.config, link, port, graphs, identity, menus, orders, board, self._signer, ledger
            )
            try:
                loop.serve(lambda: self._begin(ready))
            finally:
                loop.retained.clear()
            status.state = "stopping"
            board.show(status)

    def _begin(self, ready: Callable[[], None] | None) -> None:
        if native() is None:
            warn_once()
        if self._signer is None:
            _log.warning(
                "party %d signs no receipts: cluster.toml lists no signing keys, or turns them off",
                self.party,
            )
        if ready is not None:
            ready()


def _signer_of(party: int, config: ClusterConfig, signing: SigningKey | None) -> Signer | None:
    """Who signs this server's receipts; None where cluster.toml wants none."""
    if config.signers is None:
        return None
    place = config.parties[party]
    if signing is None or signing.public != place.signing_key:
        found = "it has none" if signing is None else f"it has {signing.public}"
        raise ConfigError(
            f"party {party} must sign receipts with {place.signing_key}, and {found}",
            f"put the server's {SUFFIX} file beside its .secret file, or correct signing_key in cluster.toml",
        )
    return Signer(signing, place.name, f"{__version__}+{lockstep_code()}", config.signers)
