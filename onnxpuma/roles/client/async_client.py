"""A client for asyncio: requests are awaited, several at a time, and end when their task is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from onnxpuma.config import ClusterConfig, read_cluster
from onnxpuma.errors import ConfigError, OnnxpumaError
from onnxpuma.roles.client.client import Client, Watch
from onnxpuma.roles.client.keys import client_keys
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.client.outcome import Outcome
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.curve import KeyPair

Made = TypeVar("Made")


class AsyncClient:
    """The client of three servers, for asyncio.

    cluster: cluster.toml, or its path. key: the client's key pair or `.secret` file; by default
    `client.secret` beside cluster.toml. model, public_inputs, model_name, mixing: as
    for `Client`; requests side by side want canaries in pauses of their own (`Mixing(spread=True)`).
    connections: requests that may be on their way at one time; others wait here. Each has its own
    connections to the servers, which count towards `connections` under [limits].

    Raises ConfigError for an argument that is wrong.
    """

    def __init__(
        self,
        cluster: ClusterConfig | str | Path,
        key: KeyPair | str | Path | None = None,
        model: SharedModel | None = None,
        *,
        public_inputs: Sequence[str] = (),
        model_name: str = "",
        connections: int = 4,
        mixing: Mixing | None = None,
    ) -> None:
        if connections < 1:
            raise ConfigError(f"connections is {connections}", "pass 1 or more")
        config = cluster if isinstance(cluster, ClusterConfig) else read_cluster(Path(cluster))
        halt = Event()
        self._first = Client(
            config,
            client_keys(key, cluster),
            model,
            public_inputs=public_inputs,
            model_name=model_name,
            halt=halt,
            mixing=mixing,
        )
        self._idle, self._all = [(self._first, halt)], [self._first]
        self._places = asyncio.Semaphore(connections)
        self._threads = ThreadPoolExecutor(connections, "onnxpuma-client")
        self._closed = False

    def __repr__(self) -> str:
        return f"<Async{repr(self._first)[1:]}"

    async def model(self) -> SharedModel:
        """The public part of the model, fetched at first use. Raises as `Client.model`."""
        return await self._call(lambda client: client.model)

    async def run(
        self,
        feed: Mapping[str, Any],
        output_names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        graph: str | None = None,
        keep: Sequence[str] = (),
        release: Iterable[Kept] = (),
        public_inputs: Sequence[str] = (),
        watch: Watch | None = None,
    ) -> Outcome:
        """Run the model as `Client.run` does, whose arguments and errors it has.

        When the awaiting task is cancelled, the servers are told to drop the request. `watch` is called in
        another thread.
        """
        return await self._call(
            lambda client: client.run(
                feed,
                output_names,
                timeout=timeout,
                graph=graph,
                keep=keep,
                release=release,
                public_inputs=public_inputs,
                watch=watch,
            )
        )

    async def release(self, kept: Iterable[Kept]) -> None:
        """Make the servers forget these values, as `Client.release` does."""
        held = tuple(kept)
        await self._call(lambda client: client.release(held))

    async def status(self, timeout: float | None = None) -> list[wire_pb2.Status | OnnxpumaError]:
        """Each server's status, or the error that explains why it sends none."""
        return await self._call(lambda client: client.status(timeout))

    async def close(self) -> None:
        """Disconnect, once the requests that are on their way have ended."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for client in self._all:
            client.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, ask: Callable[[Client], Made]) -> Made:
        """What `ask` returns, in another thread and with a connection of its own.

        A cancelled call gives its connection back when its thread has noticed.
        """
        if self._closed:
            raise ConfigError("this client is closed", "make another: onnxpuma.AsyncClient(...)")
        await self._places.acquire()
        try:
            client, halt = taken = self._taken()
            halt.clear()
            running = asyncio.get_running_loop().run_in_executor(self._threads, ask, client)
        except BaseException:
            self._places.release()
            raise
        running.add_done_callback(partial(self._give_back, taken))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not running.done():  # else another call may have this connection already
                halt.set()
            raise

    def _taken(self) -> tuple[Client, Event]:
        """A client that no request is using, and what ends its wait."""
        if self._idle:
            return self._idle.pop()
        halt = Event()
        self._all.append(self._first.another(halt))
        return self._all[-1], halt

    def _give_back(self, taken: tuple[Client, Event], done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()  # asyncio reports what nobody reads: a cancelled call has no reader
        self._idle.append(taken)
        self._places.release()
