"""How soon does the gateway send a token that it knows, and how many texts a second does it embed?

    python benchmarks/gateway.py --writer FOLDER [--streams 1,4]
    python benchmarks/gateway.py --embedder FOLDER [--texts 32]

The gateway runs in this process, its three servers as processes on this machine. Of each stream the time from
the end of a token's run at the client to the token's first byte at the reader is taken; a median of a machine
that has nothing else to do. Vectors: one request with all texts, then a request for each, from 8 threads.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from onnxpuma.gateway.app import gateway
from onnxpuma.gateway.catalogue import Catalogue
from onnxpuma.gateway.serving import Listener, listen
from onnxpuma.gateway.trio import Trio
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.tasks.port import Result, Run
from onnxpuma.tasks.secure import SecureRunner

TIMEOUT = 600.0


class Timed(SecureRunner):
    """Notes when each run ends, in the list of its connection."""

    def __init__(self, client: Client, noted: list[list[float]]) -> None:
        super().__init__(client)
        self._all, self.ended = noted, list[float]()
        noted.append(self.ended)

    def another(self) -> SecureRunner:
        return Timed(self._client.another(), self._all)

    def run(self, run: Run) -> Result:
        found = super().run(run)
        self.ended.append(time.perf_counter())
        return found


@contextmanager
def serving(folder: Path, noted: list[list[float]]) -> Iterator[str]:
    """The address of a gateway with this model."""
    with LocalCluster(folder) as servers:
        trio = Trio("model", folder, lambda: Timed(servers.client(), noted))
        catalogue = Catalogue([trio])
        listener, place, ready = Listener(gateway(catalogue)), listen("127.0.0.1", 0), threading.Event()

        async def serve() -> None:
            await catalogue.greet()
            await listener.at(place, ready.set)

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        try:
            if not ready.wait(TIMEOUT):
                raise SystemExit("the gateway did not start")
            yield f"http://127.0.0.1:{place.getsockname()[1]}/v1"
        finally:
            listener.should_exit = True
            thread.join(30)
            place.close()
            catalogue.close()


def stream(url: str, tokens: int) -> list[float]:
    """When the text of each token arrived."""
    asked = {"model": "model", "prompt": "Once upon a time", "max_tokens": tokens, "stream": True}
    arrived = []
    with httpx.stream("POST", f"{url}/completions", json=asked, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["text"]:
                arrived.append(time.perf_counter())
    return arrived


def delays(known: list[list[float]], arrived: list[list[float]]) -> list[float]:
    """From the end of each token's run to its arrival. Which connection wrote which stream is not told: of
    all ways in which no text arrives before it is known, the one with the least delays."""
    best: list[float] = []
    for order in itertools.permutations(known, len(arrived)):
        found = []
        for runs, texts in zip(order, arrived, strict=True):
            # a token may have no text of its own: its bytes are a part of a letter
            found += [text - max((run for run in runs if run <= text), default=-TIMEOUT) for text in texts]
        if not best or sum(found) < sum(best):
            best = found
    return best


def first_bytes(folder: Path, streams: int, tokens: int) -> list[float]:
    noted: list[list[float]] = []
    with serving(folder, noted) as url, ThreadPoolExecutor(streams) as pool:
        list(pool.map(lambda _: stream(url, 2), range(streams)))  # plans are made
        for runs in noted:
            runs.clear()
        arrived = list(pool.map(lambda _: stream(url, tokens), range(streams)))
    return delays([runs for runs in noted if runs], arrived)


def vectors(folder: Path, count: int) -> dict[str, tuple[float, Any]]:
    """Texts a second, and what the gateway says of the cost, in one request and in a request for each."""
    texts = [f"text number {number:03d} of some" for number in range(count)]

    def ask(given: str | list[str]) -> Any:
        answer = httpx.post(f"{url}/embeddings", json={"model": "model", "input": given}, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()["onnxpuma"]

    with serving(folder, []) as url, ThreadPoolExecutor(8) as pool:
        for warm in (texts, texts[:1]):
            ask(warm)
        began = time.perf_counter()
        together = ask(texts)
        between = time.perf_counter()
        apart = list(pool.map(ask, texts))
        ended = time.perf_counter()
    summed = {key: sum(each[key] for each in apart) for key in ("rounds", "bytes")}
    return {
        "one request": (count / (between - began), together),
        "a request each": (count / (ended - between), summed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--writer", type=Path, help="an exported model for text-generation")
    parser.add_argument("--streams", default="1,4", help="how many at once, one measurement each")
    parser.add_argument("--tokens", type=int, default=24, help="of each stream")
    parser.add_argument("--embedder", type=Path, help="an exported model for feature-extraction")
    parser.add_argument("--texts", type=int, default=32)
    arguments = parser.parse_args()
    for streams in map(int, arguments.streams.split(",")) if arguments.writer else ():
        found = sorted(1e3 * each for each in first_bytes(arguments.writer, streams, arguments.tokens))
        middle, late = statistics.median(found), found[int(0.9 * (len(found) - 1))]
        print(f"{streams} streams: {len(found)} tokens, median {middle:.1f} ms, nine of ten {late:.1f} ms")
    if arguments.embedder:
        for name, (speed, cost) in vectors(arguments.embedder, arguments.texts).items():
            print(f"{name}: {speed:.1f} texts a second, {cost['rounds']} rounds, {cost['bytes']} bytes")


if __name__ == "__main__":
    main()
