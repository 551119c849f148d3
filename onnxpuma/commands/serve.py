"""serve: one of the three servers, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import options, screen
from onnxpuma.errors import ConfigError


def serve(
    model: Annotated[
        Path, typer.Option("--model", metavar="DIR", help="The folder from share, your party's part of it.")
    ],
    key: options.Key,
    cluster: options.Cluster = Path("cluster.toml"),
    party: Annotated[
        int | None,
        typer.Option("--party", min=0, max=2, help="0, 1 or 2; the key says it as well.", show_default=False),
    ] = None,
) -> None:
    """Serve a shared model as one of the three parties. Stop it with Ctrl-C or SIGTERM."""
    from onnxpuma.config import read_cluster
    from onnxpuma.roles.server import Server
    from onnxpuma.transport.curve import read_secret_key

    config = read_cluster(cluster)
    pair = read_secret_key(key)
    own = config.party_of(pair.public)
    if own is None or (party is not None and party != own):
        whose = "no party" if own is None else f"party {own}"
        raise ConfigError(
            f"the key {key} belongs to {whose} of {cluster}",
            f"its public key is {pair.public}; compare it with the public_key of your party there",
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _log_to_stderr()
    place = config.parties[own]

    def ready() -> None:
        screen.say(
            f"party {own} ({screen.plain(place.name)}) is ready: clients at {place.client_listen}, "
            f"the other parties at {place.peer_listen}"
        )

    Server(own, config, pair, model).serve(ready=ready, stop=stop)
    screen.note(f"party {own} has stopped")


def _log_to_stderr() -> None:
    """A line for each request, and for each peer or client that comes and goes."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("onnxpuma")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
