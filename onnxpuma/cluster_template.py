"""Write a cluster.toml with comments, to fill in or ready to use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomlkit

from onnxpuma.config import PLACEHOLDER, KeptConfig, LimitConfig, PartyConfig, ThreadConfig, TimeoutConfig
from onnxpuma.errors import ConfigError

_HEAD = """\
# The three servers and the clients they serve. All of their machines have the same file; nothing in it is
# secret. A server knows from its secret key which party it is.
"""

_CLIENTS = """
# Who may send requests: any name, and the public key that belongs to it.
[clients]
"""

_TAIL = """
[timeouts]  # in seconds
connect = {t.connect:g}     # until all servers are there
request = {t.request:g}    # for one message between servers, and for a result
heartbeat = {t.heartbeat:g}   # a machine that does not answer for this long is given up
arrival = {t.arrival:g}     # for a request that has reached one server to reach the others
renew = {t.renew:g}     # older connections are replaced, with fresh keys

[threads]
compute = {n.compute}      # for matrix products; 0 takes every core
io = {n.io}           # to encrypt and send, and as many to receive and decrypt

[kept]  # shares that stay at the servers between two requests of a client, such as a decoder's cache
seconds = {k.seconds:g}    # without use until they are forgotten
megabytes = {k.megabytes}  # of one client at each server

[limits]  # what one client may take of each server
connections = {m.connections}          # at a time
waiting = {m.waiting}              # requests that wait
message_megabytes = {m.message_megabytes}    # of its messages that wait
elements = {m.elements}       # numbers in the longest input of a request
request_megabytes = {m.request_megabytes}      # memory for one request; 0: three quarters of the machine's
traffic_megabytes = {m.traffic_megabytes}  # from one server to the others for one request
planning = {m.planning:g}              # seconds for planning one request
seconds = {m.seconds:g}             # for running one request
"""


def write_cluster_template(
    path: Path,
    parties: Sequence[PartyConfig] | None = None,
    clients: Mapping[str, str] | None = None,
) -> None:
    """Write a cluster.toml with comments, for these parties and clients, or with placeholders to fill in.

    Raises ConfigError when the file exists already or cannot be written.
    """
    rows = parties or [
        PartyConfig(name, f"{name}.example.org", 7000, 7100, PLACEHOLDER)
        for name in ("alice", "bob", "carol")
    ]
    known = clients if clients is not None else {"client": PLACEHOLDER}
    text = _HEAD + "".join(_party_text(i, row) for i, row in enumerate(rows)) + _CLIENTS
    text += "".join(f"{tomlkit.key(name).as_string()} = {_quoted(key)}\n" for name, key in known.items())
    text += _TAIL.format(t=TimeoutConfig(), n=ThreadConfig(), k=KeptConfig(), m=LimitConfig())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise ConfigError(f"{path} exists already", "name another file, or move that one away") from None
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", "choose a folder you may write to"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _party_text(i: int, party: PartyConfig) -> str:
    listen = f"listen = {_quoted(party.listen)}\n" if party.listen != "*" else ""
    return f"""
[[party]]  # party {i}
name = {_quoted(party.name)}
host = {_quoted(party.host)}
peer_port = {party.peer_port}     # for the two other servers
client_port = {party.client_port}   # for clients
public_key = {_quoted(party.public_key)}
{listen}"""


def _quoted(text: str) -> str:
    return tomlkit.string(text).as_string()
