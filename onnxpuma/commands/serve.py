"""serve: one of the three servers, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import options, screen
from onnxpuma.errors import ConfigError, plain_lines

_log = logging.getLogger("onnxpuma.commands")


def serve(
    model: Annotated[
        Path, typer.Option("--model", metavar="DIR", help="Your party's part of the folder from share.")
    ],
    key: options.Key,
    cluster: options.Cluster = Path("cluster.toml"),
    party: Annotated[
        int | None,
        typer.Option("--party", min=0, max=2, help="0, 1 or 2; must match the key.", show_default=False),
    ] = None,
    memory: options.Memory = None,
) -> None:
    """Serve a shared model as one of the three parties. Stop it with Ctrl-C or SIGTERM."""
    from onnxpuma.config import read_cluster
    from onnxpuma.roles.server.seclusion import stay_in_memory, swaps
    from onnxpuma.roles.server.server import Server
    from onnxpuma.transport.curve import read_secret_key

    allowed = options.read_memory(memory)
    config = read_cluster(cluster)
    pair = read_secret_key(key)
    own = config.party_of(pair.public)
    if own is None or (party is not None and party != own):
        whose = "no party" if own is None else f"party {own}"
        raise ConfigError(
            f"the key {key} belongs to {whose} of {cluster}",
            f"its public key is {pair.public}; compare it with the public_key of your party there",
        )
    place = config.parties[own]

    def ready() -> None:
        screen.announce(
            f"party {own} ({screen.plain(place.name)}) is ready: clients at {place.client_listen}, "
            f"the other parties at {place.peer_listen}"
        )
        if not locked and swaps():
            _log.warning(
                "this machine may write shares and keys from memory to its swap: encrypt the swap, or allow "
                "this process to lock its memory (LimitMEMLOCK=infinity)"
            )

    with _log_on_stderr(), _stop_on_signals() as stop:
        locked = stay_in_memory()
        Server(own, config, pair, model, allowed).serve(ready=ready, stop=stop)
    screen.note(f"party {own} has stopped")


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a running request ends in an orderly way."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _OnStderr(logging.StreamHandler):
    """Writes lines without commands to a terminal; a line that cannot be written is lost."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_lines(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Serve on, even if the disk behind stderr is full or its reader is gone."""


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Log a line for each request, and for each peer or client that comes and goes."""
    handler = _OnStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("onnxpuma")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
