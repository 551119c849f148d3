"""Whose requests they are: the key pair with which a client calls the servers."""

from __future__ import annotations

from pathlib import Path

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import KeyPair, read_secret_key


def client_keys(
    key: KeyPair | str | Path | None, cluster: ClusterConfig | str | Path, name: str = "client.secret"
) -> KeyPair:
    """A key pair as given, or from its `.secret` file; by default from `name` beside cluster.toml.

    Raises ConfigError where there is no such file, or no telling where it is.
    """
    if isinstance(key, KeyPair):
        return key
    if key is not None:
        return read_secret_key(Path(key))
    if isinstance(cluster, ClusterConfig):
        raise ConfigError("the client's key is missing", f"give key='{name}'")
    return read_secret_key(Path(cluster).parent / name)
