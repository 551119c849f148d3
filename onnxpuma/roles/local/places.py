"""Where the three servers of this machine listen, and who they are."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from onnxpuma.config import PartyConfig
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.signing import SigningKey

NAMES = ("alice", "bob", "carol")
HERE = "127.0.0.1"


def local_parties(keys: Sequence[tuple[KeyPair, SigningKey]]) -> list[PartyConfig]:
    """The three parties, at ports of the loopback interface where nobody listens now."""
    ports = _free_ports(2 * PARTIES)
    return [
        PartyConfig(name, HERE, ports[2 * i], ports[2 * i + 1], pair.public, HERE, signing.public)
        for i, (name, (pair, signing)) in enumerate(zip(NAMES, keys, strict=True))
    ]


def _free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind((HERE, 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()
