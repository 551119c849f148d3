"""Listening: a socket, uvicorn on it, and an orderly end."""

from __future__ import annotations

import asyncio
import copy
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import LOGGING_CONFIG

from onnxpuma.errors import ConfigError

PATIENCE = 10  # seconds for answers that are under way when the gateway is told to stop


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at this address. Raises ConfigError if that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror or error}", "choose another --host or --port"
        ) from None


class Listener(uvicorn.Server):
    """Serves an application at a socket until `stop`.

    certificate, certificate_key: files for HTTPS. log: whether each request is a line on stderr: its address,
    method, path and status, never its content.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        certificate: Path | None = None,
        certificate_key: Path | None = None,
        log: bool = False,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=_logging() if log else None,
                access_log=log,
                log_level="info" if log else "critical",
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=PATIENCE,
                ssl_certfile=certificate,
                ssl_keyfile=certificate_key,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Ctrl-C and SIGTERM end the serving in an orderly way; a second one cuts the answers short.

        uvicorn itself would raise the signal once more afterwards, before servers on this machine are
        stopped.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._stop_soon) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _stop_soon(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def at(self, place: socket.socket, ready: Callable[[], Any] = lambda: None) -> None:
        """Serve until told to stop. `ready` is called once requests are answered."""
        job = asyncio.ensure_future(self.serve([place]))
        while not self.started and not job.done():
            await asyncio.sleep(0.01)
        if self.started:
            ready()
        await job


def _logging() -> dict[str, Any]:
    """uvicorn's own log of requests, on stderr: stdout is for results."""
    made = copy.deepcopy(LOGGING_CONFIG)
    made["handlers"]["access"]["stream"] = "ext://sys.stderr"
    made["loggers"]["uvicorn.error"] = {"level": "WARNING"}
    return made
