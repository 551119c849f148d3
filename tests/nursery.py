"""Servers of tests fork from a process that has loaded the package, which is half the price of a start.

`start` takes the place of the function of roles/local/isolated.py (tests/conftest.py). Tests of how servers
start use the fixture `own_interpreters`: their servers start as those of users do.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import IO, Any

from tests.unhurried import FLAG, unhurried

ROOT = Path(__file__).resolve().parents[1]
LOADED = ("onnxpuma.roles.local.party", "onnxpuma.mpc.protocols.fourier")
READ_BY_IMPORTS = ("ONNXPUMA_", "PYTHON", "OMP_", "OPENBLAS_")
LARGEST = 1 << 20


def start(
    module: str,
    arguments: Sequence[str],
    folder: str | Path,
    log: IO[bytes],
    original: Callable[..., subprocess.Popen[bytes]],
) -> subprocess.Popen[bytes] | Child:
    """As isolated.start. original: that function, for an environment in which modules load in another way."""
    nursery = _nursery()
    if nursery.environment != _read_by_imports():
        return original(module, arguments, folder, log)
    return nursery.start(module, arguments, folder, log)


def close() -> None:
    """End the process from which servers fork, if one was started."""
    if _nursery.cache_info().currsize:
        _nursery().close()
        _nursery.cache_clear()


@cache
def _nursery() -> Nursery:
    return Nursery()


def _read_by_imports() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(READ_BY_IMPORTS)}


class Child:
    """What a test needs of subprocess.Popen, for a process that the nursery forked."""

    def __init__(self, nursery: Nursery, pid: int, stdin: int, stdout: int) -> None:
        self._nursery, self.pid = nursery, pid
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")

    @property
    def returncode(self) -> int | None:
        return self._nursery.ended.get(self.pid)

    def poll(self) -> int | None:
        while self.returncode is None and self._nursery.hear(0.0):
            pass
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self._nursery.hear(min(left, 1.0))
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process from which others fork, as its parent sees it."""

    def __init__(self) -> None:
        self.environment = _read_by_imports()
        self.ended: dict[int, int] = {}  # return codes, by process
        self._lock = RLock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.nursery import main; main()"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(self, module: str, arguments: Sequence[str], folder: str | Path, log: IO[bytes]) -> Child:
        its_stdin, stdin = os.pipe()
        stdout, its_stdout = os.pipe()
        asked = {"module": module, "arguments": [*arguments], "folder": str(folder)}
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with self._lock:
            told = json.dumps({**asked, "environment": environment}).encode()
            socket.send_fds(self._socket, [told], [its_stdin, its_stdout, log.fileno()])
            os.close(its_stdin)
            os.close(its_stdout)
            while (pid := self._next().get("pid")) is None:
                pass
            self.ended.pop(pid, None)
        return Child(self, pid, stdin, stdout)

    def hear(self, seconds: float) -> bool:
        """Whether news came within so many seconds."""
        with self._lock:
            ready, _, _ = select.select([self._socket], [], [], seconds)
            if ready:
                self._next()
            return bool(ready)

    def _next(self) -> dict[str, int]:
        said = self._socket.recv(LARGEST)
        assert said, "the process from which servers fork has ended"
        news: dict[str, int] = json.loads(said)
        if "ended" in news:
            self.ended[news["ended"]] = news["status"]
        return news

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)


# ---- within the nursery -----------------------------------------------------------------------------------


def main() -> None:
    """Load the package, then fork a process for every request on the socket, until its other end closes."""
    import onnxpuma  # noqa: F401  (first: it ends the telemetry)

    asked = socket.socket(fileno=int(sys.argv[1]))
    for module in LOADED:
        import_module(module)
    import_module("onnxpuma.mpc.protocols.fourier").fingerprint()
    work = _serve(asked)
    if work is not None:
        sys.exit(work())


def _serve(asked: socket.socket) -> Callable[[], int] | None:
    """None when the parent has gone; in a forked process, its work."""
    signalled, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([asked, signalled], [], [])
        if signalled in ready:
            os.read(signalled, 4096)
            _bury(asked)
        if asked in ready:
            told, files, _, _ = socket.recv_fds(asked, LARGEST, 3)
            if not told:
                return None
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asked.close()
                os.close(signalled)
                os.close(wakes)
                return _grown(json.loads(told), files)
            for each in files:
                os.close(each)
            asked.send(json.dumps({"pid": pid}).encode())


def _bury(asked: socket.socket) -> None:
    """Tell of every process that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        news = {"ended": pid, "status": os.waitstatus_to_exitcode(status)}
        try:
            asked.send(json.dumps(news).encode())
        except BrokenPipeError:
            return


def _grown(told: dict[str, Any], files: Sequence[int]) -> Callable[[], int]:
    os.setsid()
    for number, each in enumerate(files):
        os.dup2(each, number)
        os.close(each)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])

    def work() -> int:
        runs = import_module("onnxpuma.roles.server.runs")
        vars(runs)["compute"] = unhurried(runs.compute, lambda: os.path.exists(FLAG))
        try:
            return int(import_module(told["module"]).main(told["arguments"]) or 0)
        except Exception:
            traceback.print_exc()
            return 1

    return work
