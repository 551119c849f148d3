"""Signals as orders to a server, and the file that says which process to send them to.

SIGTERM   finish what runs, refuse the rest, leave; the second one: end at once
SIGINT    end at once (Ctrl-C)
SIGHUP    take clients and limits from cluster.toml, and open the audit log anew
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onnxpuma.errors import ConfigError
from onnxpuma.roles.server.orders import Orders

_HINT = "serve writes it: `onnxpuma serve --pid-file FILE`; is the server running?"


@contextmanager
def obeyed(orders: Orders, reload: Callable[[], None]) -> Iterator[None]:
    """Turn the signals of this process into `orders`. reload: called at SIGHUP, in the main thread."""

    def terminate(*_: object) -> None:
        (orders.stop if orders.leave.is_set() else orders.leave).set()

    def hang_up(*_: object) -> None:
        reload()
        orders.reload.set()

    handlers = {
        signal.SIGTERM: terminate,
        signal.SIGINT: lambda *_: orders.stop.set(),
        signal.SIGHUP: hang_up,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Write the number of this process into a file, and remove it in the end. None: no file. ConfigError if
    it cannot be written."""
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", "name a file that can be written"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def send(path: Path, number: signal.Signals) -> int:
    """Send a signal to the process whose number the file has; that number. ConfigError if there is none."""
    try:
        process = int(path.read_text())
        if process <= 1:
            raise ValueError(process)
        os.kill(process, number)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", _HINT) from None
    except ValueError:
        raise ConfigError(f"{path} has no number of a process", _HINT) from None
    except OSError as error:
        raise ConfigError(
            f"no signal could be sent to the process of {path}: {error.strerror}", _HINT
        ) from None
    return process
