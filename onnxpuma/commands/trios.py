"""The trios of servers that a gateway asks: some are started here, others run elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxpuma.config import ClusterConfig
    from onnxpuma.gateway.trio import Trio
    from onnxpuma.roles.client.mixing import Mixing


@dataclass(frozen=True)
class Elsewhere:
    """One model of servers elsewhere."""

    cluster: Path
    key: Path | None
    tokenizer: Path
    model: str
    mixing: Mixing | None


def listed(
    clusters: Sequence[Path],
    keys: Sequence[Path],
    tokenizers: Sequence[Path],
    models: Sequence[str],
    mixings: Sequence[Mixing | None],
) -> list[Elsewhere]:
    """The models elsewhere, in the order of the options."""
    each_key = keys if len(keys) == len(clusters) else [*keys, None][:1] * len(clusters)
    each_model = models or [""] * len(clusters)
    each_mixing = mixings or [None] * len(clusters)
    rows = zip(clusters, each_key, tokenizers, each_model, each_mixing, strict=True)
    return [Elsewhere(*row) for row in rows]


@contextmanager
def made(
    folders: Sequence[Path],
    elsewhere: Sequence[Elsewhere],
    workers: int,
    threads: int,
    memory: int | None,
    public_inputs: Sequence[str],
    receipts: Path | None = None,
) -> Iterator[list[Trio]]:
    """The trios of all models; those that were started here are stopped afterwards. receipts: the folder for
    those of their runs."""
    trios: list[Trio] = []
    try:
        for folder in folders:
            trios.append(_started(folder, workers, threads, memory, public_inputs, receipts))
        for each in elsewhere:
            trios.append(_reached(each, workers, public_inputs, receipts))
        yield trios
    finally:
        for trio in trios:
            trio.close()


def _started(
    folder: Path,
    workers: int,
    threads: int,
    memory: int | None,
    public_inputs: Sequence[str],
    receipts: Path | None,
) -> Trio:
    """Three servers on this machine."""
    from onnxpuma.commands.local import start_servers
    from onnxpuma.gateway.trio import Trio
    from onnxpuma.tasks.folder import ModelFolder
    from onnxpuma.tasks.secure import SecureRunner

    ModelFolder(folder)  # fails, if files are missing, before servers are started
    servers = start_servers(folder, threads, public_inputs=public_inputs, memory=memory)
    return Trio(
        folder.resolve().name,
        folder,
        lambda: SecureRunner(servers.client()),
        servers=_named(servers.config),
        workers=workers,
        close=servers.close,
        receipts=receipts,
    )


def _reached(asked: Elsewhere, workers: int, public_inputs: Sequence[str], receipts: Path | None) -> Trio:
    """Three servers elsewhere."""
    from onnxpuma.config import read_cluster
    from onnxpuma.gateway.trio import Trio
    from onnxpuma.roles.client.keys import client_keys
    from onnxpuma.tasks.folder import ModelFolder
    from onnxpuma.tasks.secure import at_servers

    ModelFolder(asked.tokenizer)
    config, pair = read_cluster(asked.cluster), client_keys(asked.key, asked.cluster)
    return Trio(
        asked.tokenizer.resolve().name,
        asked.tokenizer,
        lambda: at_servers(config, pair, public_inputs, asked.model, asked.mixing),
        servers=_named(config),
        workers=workers,
        close=lambda: None if asked.mixing is None else asked.mixing.close(),
        receipts=receipts,
    )


def _named(config: ClusterConfig) -> list[dict[str, str]]:
    return [{"name": party.name, "host": party.host} for party in config.parties]
