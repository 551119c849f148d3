"""cluster.toml: who the three parties are, where they listen, and which clients they serve.

All parties and clients have the same file; nothing in it is secret. Every mistake in it is a ConfigError that
names the file and the key, and says what to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from tomlkit.exceptions import TOMLKitError

from onnxpuma.checked_file import CheckedFile
from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import check_public_key
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.names import endpoint
from onnxpuma.transport.signing import check_signing_key


@dataclass(frozen=True, slots=True)
class PartyConfig:
    """One of the three servers."""

    name: str
    host: str  # name or address at which the other servers and the clients reach it
    peer_port: int
    client_port: int
    public_key: str
    listen: str = "*"  # its own address to listen at; "*" for all of IPv4, "::" for IPv6 as well
    signing_key: str = ""  # with which it signs receipts; empty: it signs none

    @property
    def peer_address(self) -> str:
        """The address to which the other parties connect."""
        return endpoint(self.host, self.peer_port)

    @property
    def client_address(self) -> str:
        """The address to which clients connect."""
        return endpoint(self.host, self.client_port)

    @property
    def peer_listen(self) -> str:
        """The address at which this party listens for the other parties."""
        return endpoint(self.listen, self.peer_port)

    @property
    def client_listen(self) -> str:
        """The address at which this party listens for clients."""
        return endpoint(self.listen, self.client_port)


SettingsT = TypeVar("SettingsT")


def _setting(default: float, low: float, high: float, what: str) -> Any:
    """A key with a default, and its legal values: `what`, from `low` to `high`."""
    return field(default=default, metadata={"bounds": (low, high, what)})


@dataclass(frozen=True, slots=True)
class TimeoutConfig:
    """How long to wait, in seconds."""

    connect: float = _setting(30.0, 0.01, 1e6, "seconds")  # until all parties are connected
    request: float = _setting(600.0, 0.01, 1e6, "seconds")  # for a message, and for a result
    heartbeat: float = _setting(10.0, 0.01, 1e6, "seconds")  # until a silent party or client counts as lost
    arrival: float = _setting(10.0, 0.01, 1e6, "seconds")  # until a request at one server is at all three
    renew: float = _setting(3600.0, 0.01, 1e9, "seconds")  # until fresh keys replace those of a connection
    drain: float = _setting(30.0, 0.0, 1e6, "seconds")  # for what runs at a server that is told to leave


@dataclass(frozen=True, slots=True)
class ThreadConfig:
    """How many threads a server uses."""

    compute: int = _setting(0, 0, 1024, "a number of threads")  # for ring arithmetic; 0: one per core
    io: int = _setting(1, 1, 1024, "a number of threads")  # that encrypt and send; as many others receive


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The network between the servers, for which requests are planned: its slowest connection."""

    latency_ms: float = _setting(0.1, 0.0, 1e5, "milliseconds")  # one way: half of a ping
    bandwidth_mbps: float = _setting(1000.0, 0.001, 1e7, "megabits a second")  # that one server can send


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """How much memory the weights take at each server; those that do not fit are read in every run."""

    gigabytes: float = _setting(0.0, 0.0, 1e6, "gigabytes")  # 0: what the machine can spare


@dataclass(frozen=True, slots=True)
class KeptConfig:
    """Values that stay at the servers between requests."""

    seconds: float = _setting(600.0, 0.01, 1e9, "seconds")  # without use, after which they are dropped
    megabytes: int = _setting(4096, 0, 1 << 30, "megabytes")  # that one client may keep at each server
    all_megabytes: int = _setting(0, 0, 1 << 30, "megabytes")  # that all clients may keep there; 0: any


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """How much of each server one client may take."""

    connections: int = _setting(100, 1, 1 << 20, "a number of connections")  # open at one time
    waiting: int = _setting(100, 1, 1 << 20, "a number of requests")  # in the queue
    message_megabytes: int = _setting(128, 1, 1 << 30, "megabytes")  # unread, unfinished messages included
    queue: int = _setting(1000, 1, 1 << 20, "a number of requests")  # of all clients, in the queue
    queue_megabytes: int = _setting(1024, 1, 1 << 30, "megabytes")  # of all clients' requests in the queue
    requests_a_minute: int = _setting(0, 0, 1 << 20, "a number of requests")  # 0: any
    batch: int = _setting(16, 1, 200, "a number of requests")  # that run together; 1: none do
    sessions: int = _setting(2, 1, 64, "a number of runs")  # that are under way at a time
    # Of one request:
    elements: int = _setting(1 << 28, 1, 1 << 40, "a number of elements")  # in its longest input
    request_megabytes: int = _setting(0, 0, 1 << 30, "megabytes")  # of memory; 0: 3/4 of the machine's
    traffic_megabytes: int = _setting(1 << 20, 1, 1 << 40, "megabytes")  # that one server sends the others
    planning: float = _setting(60.0, 0.01, 1e6, "seconds")  # to compile its plan
    seconds: float = _setting(3600.0, 0.01, 1e9, "seconds")  # to run it


@dataclass(frozen=True, slots=True)
class ReceiptConfig:
    """Receipts that the servers sign about each run, if cluster.toml lists their signing keys."""

    on: bool = True  # the same at all three, and at clients
    # For which a server keeps the keys of a session that its client may open as a canary.
    canary_seconds: float = _setting(30.0, 0.01, 3600.0, "seconds")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The contents of cluster.toml."""

    parties: tuple[PartyConfig, PartyConfig, PartyConfig]
    clients: Mapping[str, str] = field(default_factory=dict)  # name: public key
    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    threads: ThreadConfig = field(default_factory=ThreadConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    kept: KeptConfig = field(default_factory=KeptConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    receipts: ReceiptConfig = field(default_factory=ReceiptConfig)

    @property
    def signers(self) -> tuple[str, ...] | None:
        """The signing keys of the three servers; None where there are no receipts."""
        keys = tuple(party.signing_key for party in self.parties)
        return keys if self.receipts.on and all(keys) else None

    def party_of(self, public_key: str) -> int | None:
        """The number of the party that has this key, or None."""
        return next((i for i, party in enumerate(self.parties) if party.public_key == public_key), None)


_SETTINGS: dict[str, Any] = {f.name: f.default_factory for f in fields(ClusterConfig)[2:]}  # table -> kind


def read_cluster(path: Path) -> ClusterConfig:
    """Read and check cluster.toml.

    Raises ConfigError when the file is missing or is not TOML, when a key is missing, unknown or has an
    impossible value, and when two parties share a name, an address or a public key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}", "write one with `onnxpuma init`, or name another"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", "it must be a text file that you can read"
        ) from None
    try:
        tables = tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        raise ConfigError(f"{path} is not TOML: {error}", "correct that line") from None
    return _Reader(path).cluster(tables)


class _Reader(CheckedFile):
    """Turns the tables of one file into a ClusterConfig; its errors name the file."""

    def cluster(self, tables: dict[str, Any]) -> ClusterConfig:
        self.known(tables, ["party", "clients", *_SETTINGS], "")
        rows = tables.get("party", [])
        if not isinstance(rows, list) or len(rows) != PARTIES:
            count = len(rows) if isinstance(rows, list) else "something other than"
            raise self.error(f"has {count} [[party]] tables", "write three: parties 0, 1 and 2, in order")
        first, second, third = (self.party(row, f"party {i}") for i, row in enumerate(rows))
        clients = self.clients(self.table(tables, "clients"))
        self.distinct((first, second, third), clients)
        made = {name: self.settings(kind, tables, name) for name, kind in _SETTINGS.items()}
        return ClusterConfig((first, second, third), clients, **made)

    def settings(self, kind: type[SettingsT], tables: dict[str, Any], name: str) -> SettingsT:
        """The table `name`; a key that it leaves out gets the default of `kind`."""
        table = self.known_fields(kind, self.table(tables, name), f"{name}.")
        values: dict[str, Any] = {}
        for item in fields(kind):  # type: ignore[arg-type]
            if item.name in table:
                where = f"{name}.{item.name}"
                if isinstance(item.default, bool):
                    values[item.name] = self.switch(table[item.name], where)
                    continue
                read = self.number if isinstance(item.default, float) else self.whole
                values[item.name] = read(table[item.name], where, *item.metadata["bounds"])
        return kind(**values)

    def party(self, row: dict[str, Any], where: str) -> PartyConfig:
        self.known_fields(PartyConfig, row, f"{where}: ")
        for item in fields(PartyConfig):
            if item.default is MISSING and item.name not in row:
                raise self.error(
                    f"{where}: {item.name} is missing", f"write {item.name} = {_EXAMPLES[item.name]}"
                )
        return PartyConfig(
            name=self.text(row["name"], f"{where}: name"),
            host=self.host(row["host"], f"{where}: host", refuse="*"),
            peer_port=self.whole(row["peer_port"], f"{where}: peer_port", 1, 65535, "a port"),
            client_port=self.whole(row["client_port"], f"{where}: client_port", 1, 65535, "a port"),
            public_key=self.key(row["public_key"], f"{where}: public_key"),
            listen=self.host(row.get("listen", "*"), f"{where}: listen"),
            signing_key=self.signing_key(row["signing_key"], f"{where}: signing_key")
            if "signing_key" in row
            else "",
        )

    def clients(self, table: dict[str, Any]) -> dict[str, str]:
        return {name: self.key(value, f"clients.{name}") for name, value in table.items()}

    def distinct(self, parties: Sequence[PartyConfig], clients: Mapping[str, str]) -> None:
        """Refuse names, addresses and keys that two parties or clients share."""
        claims: list[tuple[str, str, str, str]] = []
        port, pair = "give each its own port or host", "give each its own key pair, from `onnxpuma keygen`"
        for i, party in enumerate(parties):
            claims += [
                ("name", party.name, f"party {i}", "give each party its own name"),
                ("address", party.peer_address, f"party {i} (peer_port)", port),
                ("address", party.client_address, f"party {i} (client_port)", port),
                ("public key", party.public_key, f"party {i}", pair),
            ]
        without = [i for i, party in enumerate(parties) if not party.signing_key]
        if 0 < len(without) < PARTIES:
            raise self.error(
                f"party {without[0]} has no signing_key, others have",
                "write that of each server from its .public file, or of none",
            )
        for i, party in enumerate(parties[len(without) :]):
            claims.append(("signing key", party.signing_key, f"party {i}", pair))
        for name, key in clients.items():
            claims.append(("public key", key, f"clients.{name}", pair))
        owners: dict[tuple[str, str], str] = {}
        for what, value, owner, hint in claims:
            other = owners.setdefault((what, value), owner)
            if other != owner:
                raise self.error(f"{other} and {owner} have the same {what} {value}", hint)

    def key(self, value: object, where: str) -> str:
        text = self.text(value, where)
        if text == PLACEHOLDER:
            raise self.error(
                f"{where} is not filled in", "generate a pair with `onnxpuma keygen`, write its public key"
            )
        return check_public_key(text, f"{self.path}: {where}")

    def signing_key(self, value: object, where: str) -> str:
        return check_signing_key(self.text(value, where), f"{self.path}: {where}")


PLACEHOLDER = "the 40 characters of the .public file"

_EXAMPLES = {
    "name": '"alice"',
    "host": '"server0.example.org"',
    "peer_port": "7000",
    "client_port": "7100",
    "public_key": '"..." with the 40 characters of the .public file',
}
