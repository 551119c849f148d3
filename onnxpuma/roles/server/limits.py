"""Which clients a server admits, and how much of its port each may take, as cluster.toml says."""

from __future__ import annotations

from onnxpuma.config import ClusterConfig
from onnxpuma.transport.client_port import FIRST_MESSAGE_SECONDS
from onnxpuma.transport.gate import Bounds

# A client renews the connections that it uses; a server cuts off the others at twice that age.
RENEWED_HERE = 2.0


def client_names(config: ClusterConfig) -> dict[str, str]:
    """Public key -> name."""
    return {key: name for name, key in config.clients.items()}


def bounds_of(config: ClusterConfig) -> Bounds:
    """The bounds of the port for clients."""
    limits, timeouts = config.limits, config.timeouts
    return Bounds(
        limits.connections,
        limits.message_megabytes * 1_000_000,
        max(FIRST_MESSAGE_SECONDS, timeouts.heartbeat),
        RENEWED_HERE * timeouts.renew,
    )
