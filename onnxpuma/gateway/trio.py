"""One model at three servers: pipelines that take requests side by side, each on a connection of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from onnxpuma.gateway.refusal import Busy
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.build import pipeline
from onnxpuma.tasks.port import Runner
from onnxpuma.tasks.secure import SecureRunner

WORKERS = 16  # as many requests as servers run together by default
WAITING = 64  # requests that may wait for a worker
_RECENT = 0.2  # weight of the latest request in the mean duration

_ENDPOINTS = {
    "text-generation": ("/v1/completions",),
    "text2text-generation": ("/v1/completions",),
    "summarization": ("/v1/completions",),
    "translation": ("/v1/completions",),
    "feature-extraction": ("/v1/embeddings",),
    "automatic-speech-recognition": ("/v1/audio/transcriptions", "/v1/audio/translations"),
}

T = TypeVar("T")


class Trio:
    """Three servers, and `workers` pipelines of their model, made when they are first needed.

    name: of the model, for users. folder: its configuration and tokenizer. connect: a new connection to the
    servers. servers: their names and hosts. close: stops the servers, if they run here. receipts: the folder
    for the receipts of their runs, or None.

    Its methods are for one event loop; the work runs on threads.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        connect: Callable[[], Runner],
        *,
        servers: Sequence[dict[str, str]] = (),
        workers: int = WORKERS,
        waiting: int = WAITING,
        close: Callable[[], None] = lambda: None,
        receipts: Path | None = None,
    ) -> None:
        self.name, self.folder, self.servers = name, folder, list(servers)
        self.receipts = receipts
        self.task: str | None = None  # known once a pipeline has been made
        self.endpoints: tuple[str, ...] = ()
        self.digests: dict[str, str] = {}
        self._connect, self._close = connect, close
        self.workers, self._most_waiting = workers, waiting
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=f"gateway-{name}")
        self._idle: list[Pipeline] = []
        self._first: SecureRunner | None = None  # the connection that made the plans of all
        self._connecting = threading.Lock()
        self._places = asyncio.Semaphore(workers)
        self._waiting = self._running = 0
        self._seconds = 1.0  # mean duration of a request

    @property
    def load(self) -> int:
        """Requests that run or wait."""
        return self._running + self._waiting

    @property
    def digest(self) -> str | None:
        """The digest of the model, of its first graph if it has several; None before the first connection."""
        return next(iter(self.digests.values()), None)

    async def run(self, work: Callable[[Pipeline], T], begun: bool = False) -> T:
        """The result of `work` on a pipeline that nobody else uses meanwhile.

        begun: it is a further part of a request that has begun, and waits however many others do. If the
        caller is cancelled, `work` still ends by itself, and its pipeline then serves others. Raises
        Busy if too many requests wait already, the errors of connecting, and those of `work`.
        """
        if self._places.locked() and self._waiting >= self._most_waiting and not begun:
            raise Busy(
                f"{self._waiting} requests for {self.name} wait already",
                max(1.0, self._seconds * self._waiting / self.workers),
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        loop = asyncio.get_running_loop()
        begin = loop.time()
        job = self._threads.submit(self._work, work)

        def ended(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._free, begin)

        job.add_done_callback(ended)
        return await asyncio.wrap_future(job)

    async def greet(self) -> None:
        """Connect for the first time, so that the task and the digests are known. Raises as `run`."""
        await self.run(lambda pipe: None)

    def close(self) -> None:
        """End the work that runs, and disconnect."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for pipe in self._idle:
            pipe.close()
        self._idle.clear()
        self._close()

    def figures(self) -> dict[str, Any]:
        """Who answers: the servers, and what they agree on."""
        return {"servers": self.servers, "model_digest": self.digest, "digests": self.digests}

    # ---- within ---------------------------------------------------------------------------------------

    def _work(self, work: Callable[[Pipeline], T]) -> T:
        pipe = self._idle.pop() if self._idle else self._new()  # list.pop is atomic
        try:
            return work(pipe)
        finally:
            self._idle.append(pipe)

    def _connected(self) -> Runner:
        """A new connection; further ones share the plans of the first."""
        with self._connecting:
            if self._first is not None:
                return self._first.another()
            made = self._connect()
            self._first = made if isinstance(made, SecureRunner) else None
            return made

    def _new(self) -> Pipeline:
        runner = self._connected()
        pipe = pipeline(folder=self.folder, runner=runner)
        if isinstance(runner, SecureRunner):
            self.digests = runner.digests
        self.task, self.endpoints = pipe.task, _endpoints(pipe)
        return pipe

    def _free(self, begin: float) -> None:
        self._running -= 1
        self._places.release()
        taken = asyncio.get_running_loop().time() - begin
        self._seconds += _RECENT * (taken - self._seconds)


def _endpoints(pipe: Pipeline) -> tuple[str, ...]:
    """The addresses of the gateway that this pipeline serves."""
    found = _ENDPOINTS.get(pipe.task, ())
    chats = pipe.task == "text-generation" and getattr(pipe.folder.tokenizer, "chat_template", None)
    return ("/v1/chat/completions", *found) if chats else found
