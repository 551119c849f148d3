"""The network for which plans are made: the three servers and every client take the same.

Each server reads it in cluster.toml, and they compare it when they meet. A client asks the servers for
theirs, so that an old copy of cluster.toml does no harm.
"""

from __future__ import annotations

import math

from onnxpuma.config import NetworkConfig
from onnxpuma.errors import PlanError
from onnxpuma.mpc.cost import Network
from onnxpuma.transport import wire_pb2

SAME_EVERYWHERE = "give all three servers the same [network] in cluster.toml, and start them again"


def network_of(config: NetworkConfig) -> Network:
    """The network that cluster.toml describes."""
    return Network(bandwidth=config.bandwidth_mbps * 1e6, latency=config.latency_ms / 1e3)


def told(network: Network) -> wire_pb2.Network:
    """How a message names it."""
    return wire_pb2.Network(latency=network.latency, bandwidth=network.bandwidth)


def heard(message: wire_pb2.Network, sender: str) -> Network:
    """The network that a message names. PlanError if there can be none like it."""
    latency, bandwidth = message.latency, message.bandwidth
    if not (math.isfinite(latency) and math.isfinite(bandwidth) and latency >= 0 and bandwidth > 0):
        raise PlanError(
            f"{sender} names no network to plan for", "install the same version of onnxpuma everywhere"
        )
    return Network(bandwidth, latency)


def described(network: Network) -> str:
    """As cluster.toml has it."""
    return f"{network.latency * 1e3:.6g} ms and {network.bandwidth / 1e6:.6g} Mbit/s"
