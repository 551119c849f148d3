"""serve: one of the three servers, until it is told to stop; reload: it takes its clients and limits anew."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxpuma.commands import options, screen
from onnxpuma.commands.logs import LogFormat, LogLevel, log_on_stderr
from onnxpuma.commands.signals import obeyed, pid_file, send
from onnxpuma.errors import ConfigError

if TYPE_CHECKING:
    from onnxpuma.config import ClusterConfig
    from onnxpuma.roles.server.ledger import Sink
    from onnxpuma.roles.server.standing import Board

_log = logging.getLogger("onnxpuma.commands")


def serve(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="[NAME=]DIR",
            help="Your party's part of the folder from share. May be repeated, with names by which clients"
            " choose: --model small=DIR --model large=DIR.",
            show_default=False,
        ),
    ],
    key: options.Key,
    cluster: options.Cluster = Path("cluster.toml"),
    party: Annotated[
        int | None,
        typer.Option("--party", min=0, max=2, help="0, 1 or 2; must match the key.", show_default=False),
    ] = None,
    memory: options.Memory = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="ADDRESS",
            help="Serve /metrics for Prometheus, /healthz and /readyz there: 127.0.0.1:9100.",
            show_default=False,
        ),
    ] = None,
    metrics_clients: Annotated[
        bool, typer.Option("--metrics-clients", help="Name the clients in the metrics.")
    ] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit",
            metavar="FILE",
            help="Append a line of JSON for each request: who asked when for what graph and shapes.",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="How the log on stderr is written.")
    ] = LogFormat.text,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="The least that gets into the log.")
    ] = LogLevel.info,
    pid: options.PidFile = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger",
            metavar="FILE",
            help="For a model with noise on its outputs: counts the answers of each client. Keep it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve shared models as one of the three parties.

    SIGTERM finishes what runs and then stops; Ctrl-C, or a second SIGTERM, stops at once. SIGHUP takes
    clients and limits from cluster.toml.
    """
    from onnxpuma.config import read_cluster
    from onnxpuma.roles.server.lasting import leave_uncollected
    from onnxpuma.roles.server.ledger import Ledger
    from onnxpuma.roles.server.orders import Orders
    from onnxpuma.roles.server.seclusion import stay_in_memory, swaps
    from onnxpuma.roles.server.server import Server
    from onnxpuma.roles.server.standing import Board
    from onnxpuma.transport.curve import read_secret_key
    from onnxpuma.transport.signing import SUFFIX, SigningKey

    allowed, models = options.read_memory(memory), _read_models(model)
    address = None if metrics is None else options.read_address("--metrics", metrics)
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
    beside = key.with_suffix(SUFFIX)
    signing = SigningKey.read(beside) if beside.exists() else None
    server = Server(own, config, pair, models, allowed, signing, ledger)
    orders, board = Orders(read=lambda: read_cluster(cluster)), Board()

    def ready() -> None:
        leave_uncollected()
        screen.announce(
            f"party {own} ({screen.plain(place.name)}) is ready: clients at {place.client_listen}, "
            f"the other parties at {place.peer_listen}"
        )
        if not locked and swaps():
            _log.warning(
                "this machine may write shares and keys from memory to its swap: encrypt the swap, or allow "
                "this process to lock its memory (LimitMEMLOCK=infinity)"
            )

    with (
        log_on_stderr(log_format, log_level),
        _audited(audit, cluster) as (noted, reopen),
        _measured(address, board, config, metrics_clients) as counted,
        obeyed(orders, reopen),
        pid_file(pid),
    ):
        locked = stay_in_memory()
        observer = Ledger((*noted, *counted)) if noted or counted else None
        server.serve(ready, orders=orders, board=board, observer=observer)
    screen.note(f"party {own} has stopped")


def reload(
    pid: Annotated[
        Path,
        typer.Option(
            "--pid-file", metavar="FILE", help="The file that serve --pid-file wrote.", show_default=False
        ),
    ],
    cluster: options.Cluster = Path("cluster.toml"),
) -> None:
    """Make a running server take clients and limits from cluster.toml, if that file is sound.

    The server's log says what has taken effect and what needs a restart.
    """
    from onnxpuma.config import read_cluster

    read_cluster(cluster)
    screen.say(
        f"told process {send(pid, signal.SIGHUP)} to read {screen.plain(cluster)} again; its log says more"
    )


def _read_models(texts: Sequence[str]) -> dict[str, Path]:
    """`name=folder` by name, or the folder of the only model; ConfigError for any other form."""
    if len(texts) == 1 and ("=" not in texts[0] or Path(texts[0]).is_dir()):
        return {"": Path(texts[0])}
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder or name in found:
            what = "is given twice" if name in found and equals else "has no name"
            raise ConfigError(
                f"--model {text} {what}",
                "write --model small=FOLDER --model large=OTHER, for each model a name",
            )
        found[name] = Path(folder)
    return found


@contextmanager
def _audited(path: Path | None, cluster: Path) -> Iterator[tuple[tuple[Sink, ...], Callable[[], None]]]:
    """What writes the audit log, and what opens its file anew."""
    from onnxpuma.roles.server.audit import Audit

    if path is None:
        yield (), lambda: None
        return
    audit = Audit(path)
    try:
        yield (audit.write,), audit.reopen
    finally:
        audit.close()


@contextmanager
def _measured(
    address: tuple[str, int] | None, board: Board, config: ClusterConfig, clients: bool
) -> Iterator[tuple[Sink, ...]]:
    """What counts requests for the metrics that are served at this address; None: nothing."""
    from onnxpuma.roles.server.metrics import Metrics
    from onnxpuma.roles.server.probes import probes

    if address is None:
        yield ()
        return
    metrics = Metrics(lambda: board.status, clients)
    with probes(address, board, metrics, config.timeouts.request) as port:
        _log.info("metrics and probes are at http://%s:%d", address[0], port)
        yield (metrics.count,)
