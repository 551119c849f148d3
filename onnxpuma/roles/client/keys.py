"""The key pair by which the servers know a client."""

from __future__ import annotations

from pathlib import Path

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import KeyPair, read_secret_key


def client_keys(
    key: KeyPair | str | Path | None, cluster: ClusterConfig | str | Path, name: str = "client.secret"
) -> KeyPair:
    """The key pair itself, or read from its `.secret` file; by default from `name` beside cluster.toml.

    Raises ConfigError when there is no such file, or when the folder of cluster.toml is unknown.
    """
    if isinstance(key, KeyPair):
        return key
    if key is not None:
        return read_secret_key(Path(key))
    if isinstance(cluster, ClusterConfig):
        raise ConfigError("the client's key is missing", f"give key='{name}'")
    return read_secret_key(Path(cluster).parent / name)
