"""Writing a commented cluster.toml, ready to use or to be filled in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomlkit

from onnxpuma.config import (
    PLACEHOLDER,
    KeptConfig,
    LimitConfig,
    MemoryConfig,
    NetworkConfig,
    PartyConfig,
    ReceiptConfig,
    ThreadConfig,
    TimeoutConfig,
)
from onnxpuma.errors import ConfigError

_HEAD = """\
# The three servers and the clients they serve. Every one of their machines gets the same file; nothing in it
# is secret. A server's secret key tells it which party it is.
"""

_CLIENTS = """
# The clients that may send requests: a name of your choice, and the client's public key.
[clients]
"""

_TAIL = """
[timeouts]  # in seconds
connect = {t.connect:g}     # until all servers are connected
request = {t.request:g}    # for one message between servers, and for a result
heartbeat = {t.heartbeat:g}   # of silence, after which a machine counts as lost
arrival = {t.arrival:g}     # for a request that has reached one server to reach the others
renew = {t.renew:g}     # age at which a new connection, with fresh keys, replaces the old one
drain = {t.drain:g}       # for what runs at a server that is told to stop (SIGTERM)

[threads]
compute = {n.compute}      # for ring arithmetic; 0 uses every core
io = {n.io}           # that encrypt and send; as many receive and decrypt

[network]  # between the servers; requests are planned for it. The same at all three
latency_ms = {w.latency_ms:g}        # one way: half of the longest ping
bandwidth_mbps = {w.bandwidth_mbps:g}   # megabits a second that one server can send; of the slowest

[memory]  # for the weights, at each server; `onnxpuma serve --memory` replaces it at one
gigabytes = {s.gigabytes:g}       # weights that do not fit are read in every run; 0: what the machine spares

[kept]  # shares that stay at the servers between two requests of one client: decoder caches
seconds = {k.seconds:g}    # without use, after which they are dropped
megabytes = {k.megabytes}  # that one client may keep at each server
all_megabytes = {k.all_megabytes}  # that all clients may keep there; 0: any

[limits]  # how much of each server one client may take
connections = {m.connections}          # open at one time
waiting = {m.waiting}              # requests in the queue
message_megabytes = {m.message_megabytes}    # of unread messages
queue = {m.queue}               # requests of all clients in the queue
queue_megabytes = {m.queue_megabytes}     # of them
requests_a_minute = {m.requests_a_minute}      # of one client; a text takes one a token; 0: any
batch = {m.batch}                 # requests that wait and run together
sessions = {m.sessions}               # runs under way at a time
elements = {m.elements}       # numbers in the longest input of a request
request_megabytes = {m.request_megabytes}      # memory for one request; 0 is three quarters of the machine's
traffic_megabytes = {m.traffic_megabytes}  # that one server sends the others for one request
planning = {m.planning:g}              # seconds to plan one request
seconds = {m.seconds:g}             # to run one request

[receipts]  # that the servers sign about each run, if their signing keys are listed above
on = {on}              # the same at all three
canary_seconds = {canary:g}    # a client that uses canaries may have a session audited for so long
"""


def write_cluster_template(
    path: Path,
    parties: Sequence[PartyConfig] | None = None,
    clients: Mapping[str, str] | None = None,
) -> None:
    """Write a commented cluster.toml, of these parties and clients or with placeholders to fill in.

    Raises ConfigError when the file exists already or cannot be written.
    """
    rows = parties or [
        PartyConfig(name, f"{name}.example.org", 7000, 7100, PLACEHOLDER)
        for name in ("alice", "bob", "carol")
    ]
    known = clients if clients is not None else {"client": PLACEHOLDER}
    text = _HEAD + "".join(_party_text(i, row) for i, row in enumerate(rows)) + _CLIENTS
    text += "".join(f"{tomlkit.key(name).as_string()} = {_quoted(key)}\n" for name, key in known.items())
    text += _TAIL.format(
        t=TimeoutConfig(),
        n=ThreadConfig(),
        w=NetworkConfig(),
        s=MemoryConfig(),
        k=KeptConfig(),
        m=LimitConfig(),
        on=str(ReceiptConfig().on).lower(),
        canary=ReceiptConfig().canary_seconds,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise ConfigError(f"{path} exists already", "name another file, or move that one away") from None
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", "choose a folder that you can write to"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _party_text(i: int, party: PartyConfig) -> str:
    signing = _quoted(party.signing_key or "ed25519:... of the .public file")
    listen = f"listen = {_quoted(party.listen)}\n" if party.listen != "*" else ""
    return f"""
[[party]]  # party {i}
name = {_quoted(party.name)}
host = {_quoted(party.host)}
peer_port = {party.peer_port}     # for the two other servers
client_port = {party.client_port}   # for clients
public_key = {_quoted(party.public_key)}
{"" if party.signing_key else "# "}signing_key = {signing}   # of its receipts
{listen}"""


def _quoted(text: str) -> str:
    return tomlkit.string(text).as_string()
