"""Metrics and probes over HTTP, for the operator's own network: /metrics, /healthz and /readyz.

/healthz   200 while the server lives; 503 once it has not looked at its clients for too long
/readyz    200 while requests can run: the model is loaded and both peers are there; else 503, and why
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TypeAlias

from onnxpuma.errors import ConfigError
from onnxpuma.roles.server.metrics import CONTENT_TYPE, Metrics, is_ready
from onnxpuma.roles.server.standing import Board

Page: TypeAlias = tuple[int, str, bytes]  # status, type, text

CALLER_SECONDS = 5.0  # for a request of a caller to arrive


@contextmanager
def probes(address: tuple[str, int], board: Board, metrics: Metrics, stuck: float) -> Iterator[int]:
    """Answer at `address`; the port, which the system chooses if it is 0.

    stuck: seconds without a look at the clients after which a server that serves counts as dead. Raises
    ConfigError if the address is in use, or none of this machine.
    """
    pages = {
        "/metrics": lambda: (200, CONTENT_TYPE, metrics.text()),
        "/healthz": lambda: _health(board, stuck),
        "/readyz": lambda: _readiness(board),
    }
    try:
        server = _server(address)(address, _answering(pages))
    except OSError as error:
        raise ConfigError(
            f"nothing can listen at {address[0]}:{address[1]}: {error.strerror or error}",
            "give --metrics another address, such as 127.0.0.1:9100",
        ) from None
    thread = Thread(target=server.serve_forever, name="onnxpuma-probes", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _server(address: tuple[str, int]) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        daemon_threads = True

    return Server


def _health(board: Board, stuck: float) -> Page:
    silent = time.monotonic() - board.looked
    if board.status.state != "starting" and silent > stuck:
        return _plain(503, f"no look at the clients for {silent:.0f} s")
    return _plain(200, "alive")


def _readiness(board: Board) -> Page:
    status = board.status
    if is_ready(status):
        return _plain(200, status.state)
    return _plain(503, f"{status.state}: {status.detail}" if status.detail else status.state)


def _plain(code: int, text: str) -> Page:
    return code, "text/plain; charset=utf-8", f"{text}\n".encode()


def _answering(pages: dict[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CALLER_SECONDS
        server_version, sys_version = "onnxpuma", ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            code, kind, text = page() if page else _plain(404, f"here are {', '.join(pages)}")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Write no line for each probe."""

    return Handler
