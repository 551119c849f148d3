"""How many requests and tokens a second do three servers answer, when many clients ask at once?

    python benchmarks/throughput.py [--model digits|llama|FILE] [--clients 1,4,16,64] [--json]
    python benchmarks/throughput.py --model llama --temperature 0.8 --top-k 20 [--alike]
    python benchmarks/throughput.py --model digits --clients 64 --requests 5000 --warm 500

Three servers run as processes on this machine over encrypted loopback connections. The clients are threads of
this process, each with its own connections; they share plans, as a gateway's do. Each asks again as soon as
it has its answer. `digits` is the model of pictures that ships; `llama`, or a file with a cache, is generated
from: every client writes texts of --tokens tokens after a prompt, and its requests are tokens. Requests that
wait when a run begins are computed together (limits.batch).

Every answer is compared with a plain run: of pictures the scores, of texts the tokens; a drawn token must be
one of the likeliest that --top-k leaves, or as likely. Each client has its own temperature, unless --alike.
Latencies are those that a client sees, planning included. Processor milliseconds are those of the servers
and of this process for each answer; other programs change them less than the seconds. Memory is the resident
size of each server after a tenth, half and all of a measurement. An error loses its request; a client
that is silent two minutes after the end hangs. With --requests the exit status is 1 unless all answers came
and were right, and the memory of each server changed by at most 5 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import resources
from rich.console import Console
from rich.table import Table

from onnxpuma.config import LimitConfig, NetworkConfig
from onnxpuma.errors import BusyError, OnnxpumaError
from onnxpuma.graph.run import open_session
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.shipped import shipped_model
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.sampling import Sampling, draw
from onnxpuma.tasks.secure import SecureRunner
from onnxpuma.transport.link import PARTIES

LLAMA = Path(__file__).resolve().parent.parent / "tests" / "benchmarks" / "llama" / "model.onnx"
TOLERANCE = 0.02  # of scores
LOGIT_TOLERANCE = 0.003  # of the logits of tokens that are as likely as one another
HUNG_SECONDS = 120.0
FLAT = 0.05  # memory that changes by no larger share of itself is flat
PROMPT = 4  # tokens


@dataclass
class Tally:
    """What the clients of one measurement saw."""

    clients: int
    latencies: list[float] = field(default_factory=list)  # seconds, of each answered request
    together: list[int] = field(default_factory=list)  # how many requests its run computed
    rounds: list[int] = field(default_factory=list)  # of its run
    wrong: int = 0
    lost: list[str] = field(default_factory=list)  # errors
    hung: int = 0  # clients
    seconds: float = 0.0
    processor: tuple[float, float] = (0.0, 0.0)  # seconds, of the servers and of all clients
    memory: resources.Memory | None = None

    @property
    def good(self) -> bool:
        """Whether every request had its right answer, and no server's memory changed."""
        flat = self.memory is not None and self.memory.growth <= FLAT
        return not self.wrong and not self.lost and not self.hung and flat

    def as_dict(self) -> dict[str, Any]:
        ordered = np.sort(self.latencies) if self.latencies else np.zeros(1)
        p50, p95, p99 = (float(np.percentile(ordered, q)) for q in (50, 95, 99))
        return {
            "clients": self.clients,
            "requests": len(self.latencies),
            "a_second": len(self.latencies) / self.seconds,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "together": float(np.mean(self.together or [0])),
            "rounds": max(self.rounds, default=0),
            "wrong": self.wrong,
            "lost": len(self.lost),
            "hung": self.hung,
            "errors": sorted(set(self.lost)),
            "processor_ms": [1000 * spent / max(len(self.latencies), 1) for spent in self.processor],
            "memory": [] if self.memory is None else self.memory.found,
        }


Answered = Callable[[float, Any, bool], None]  # seconds, the report of server 0, whether the answer is right
Session = Callable[[Client, int, threading.Event, Answered], None]


def pictures(path: Path) -> Session:
    """Clients that classify pictures."""
    held = np.load(path.parent / "heldout.npz")["inputs"].astype(np.float32)
    plain = open_session(str(path))
    (source,) = plain.get_inputs()
    held = held.reshape(-1, *[d if isinstance(d, int) else 1 for d in source.shape[1:]])[:64]
    scores = plain.run(None, {source.name: held})[0]

    def session(client: Client, number: int, over: threading.Event, answered: Answered) -> None:
        place = number
        while not over.is_set():
            place = (place + 1) % len(held)
            began = time.perf_counter()
            outcome = client.run({source.name: held[place : place + 1]})
            error = np.abs(next(iter(outcome.outputs.values())) - scores[place]).max()
            answered(time.perf_counter() - began, outcome.reports[0], bool(error < TOLERANCE))

    return session


def texts(path: Path, tokens: int, steering: Callable[[int], Sampling | None]) -> Session:
    """Clients that write texts; all texts are of one length, their prompts differ. steering: by client."""
    plain = open_session(str(path))
    pasts = [entry for entry in plain.get_inputs() if "past" in entry.name]
    vocabulary = 200

    @lru_cache(maxsize=10_000)
    def logits(ids: tuple[int, ...]) -> np.ndarray:
        """Of the token after these."""
        feed: dict[str, Any] = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids))[None],
        }
        for entry in pasts:
            shape = [d if isinstance(d, int) else (1 if d == "batch" else 0) for d in entry.shape]
            feed[entry.name] = np.zeros(shape, np.float32)
        return np.asarray(plain.run(["logits"], feed)[0][0, -1])

    def passes(token: int, text: tuple[int, ...], kept: int) -> bool:
        """Whether a token is one of the likeliest after a text, or as likely as the last of them."""
        found = logits(text)
        return bool(found[token] >= np.sort(found)[-kept] - LOGIT_TOLERANCE)

    def session(client: Client, number: int, over: threading.Event, answered: Answered) -> None:
        reports: list[Any] = []
        run = client.run

        def recorded(*arguments: Any, **options: Any) -> Any:
            outcome = run(*arguments, **options)
            reports.append(outcome.reports[0])
            return outcome

        client.run = recorded  # type: ignore[method-assign]
        sampling = steering(number)
        kept = 1 if sampling is None else sampling.top_k
        while not over.is_set():
            decoder = causal_decoder(SecureRunner(client))
            new = [number % vocabulary, *range(1, PROMPT)]
            text: tuple[int, ...] = ()
            for _ in range(tokens):
                text += tuple(new)
                drawn = None if sampling is None else draw(sampling, [], [], len(logits(text)))
                began = time.perf_counter()
                token = decoder.read(new, drawn=drawn).token
                answered(time.perf_counter() - began, reports[-1], passes(token, text, kept))
                new = [token]
                if over.is_set():
                    break
            decoder.close()

    return session


def measure(
    servers: LocalCluster,
    session: Session,
    clients: int,
    seconds: float,
    first: Client,
    requests: int | None = None,
) -> Tally:
    """What `clients` clients see that ask for this long, or until they have this many answers."""
    tally, over, lock = Tally(clients), threading.Event(), threading.Lock()
    began = time.perf_counter()
    memory = tally.memory = resources.Memory(servers.pids, requests or seconds)

    def answered(took: float, report: Any, right: bool) -> None:
        with lock:
            tally.latencies.append(took)
            tally.together.append(report.requests)
            tally.rounds.append(report.rounds)
            tally.wrong += not right
            memory.look(len(tally.latencies) if requests else time.perf_counter() - began)
            if requests is not None and len(tally.latencies) >= requests:
                over.set()

    def work(number: int) -> None:
        try:
            with first.another() as client:
                while not over.is_set():
                    try:
                        session(client, number, over, answered)
                    except BusyError as error:
                        time.sleep(error.retry_after or 0.1)
        except OnnxpumaError as error:
            with lock:
                tally.lost.append(error.message)

    spent = resources.processor(servers.pids), time.process_time()
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    while not over.wait(1.0) and any(thread.is_alive() for thread in threads):
        if time.perf_counter() - began > seconds:
            over.set()
    over.set()
    deadline = time.monotonic() + HUNG_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    tally.hung = sum(thread.is_alive() for thread in threads)
    tally.seconds = time.perf_counter() - began
    memory.look(float("inf"))
    tally.processor = resources.processor(servers.pids) - spent[0], time.process_time() - spent[1]
    return tally


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print a column for each measurement."""
    table = Table("clients", *(str(row["clients"]) for row in found), box=None, pad_edge=False)
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "answers": lambda row: str(row["requests"]),
        "answers a second": lambda row: f"{row['a_second']:.3g}",
        "seconds: p50, p95, p99": lambda row: ", ".join(f"{row[key]:.2f}" for key in ("p50", "p95", "p99")),
        "requests of a run": lambda row: f"{row['together']:.1f}",
        "rounds of a run, at most": lambda row: str(row["rounds"]),
        "wrong, lost, hung": lambda row: f"{row['wrong']}, {row['lost']}, {row['hung']}",
        "processor ms: servers, clients": lambda row: ", ".join(f"{ms:.0f}" for ms in row["processor_ms"]),
    }
    for name, text in lines.items():
        table.add_row(name, *map(text, found))
    for party in range(PARTIES):
        held = [[mark[party] for mark in row["memory"]] for row in found]
        texts = (", ".join(f"{size / 1e6:.0f}" for size in sizes) for sizes in held)
        table.add_row(f"MB of server {party} at 10, 50, 100 %", *texts)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", default="digits", help="digits, llama, or an ONNX file")
    parser.add_argument("--clients", default="1,4,16,64", help="how many at once, one measurement each")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--requests", type=int, help="answers of each measurement, in place of --seconds")
    parser.add_argument("--warm", type=int, default=0, help="answers that do not count, before the first")
    parser.add_argument("--tokens", type=int, default=16, help="of each text")
    parser.add_argument("--batch", type=int, default=LimitConfig().batch, help="limits.batch")
    parser.add_argument("--latency-ms", type=float, default=NetworkConfig().latency_ms, help="to plan for")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--temperature", type=float, help="draw the tokens")
    parser.add_argument("--top-k", type=int, default=0, help="from so many, with --temperature")
    parser.add_argument("--alike", action="store_true", help="at one temperature for all clients")
    arguments = parser.parse_args()

    def steering(number: int) -> Sampling | None:
        if arguments.temperature is None:
            return None
        apart = 0.0 if arguments.alike else number / 100
        return Sampling(temperature=arguments.temperature + apart, top_k=arguments.top_k)

    named = {"llama": LLAMA, "digits": shipped_model("digits").path}
    path = Path(named.get(arguments.model, arguments.model))
    drawings = (path.parent / "heldout.npz").exists()
    session = pictures(path) if drawings else texts(path, arguments.tokens, steering)
    limits = LimitConfig(batch=arguments.batch, connections=1000)
    network = NetworkConfig(latency_ms=arguments.latency_ms)
    counts = [int(clients) for clients in arguments.clients.split(",")]
    patience = arguments.seconds if arguments.requests is None else float("inf")
    tallies = []
    with LocalCluster(path, limits=limits, network=network) as servers, servers.client() as first:
        if arguments.warm:
            measure(servers, session, max(counts), patience, first, arguments.warm)
        for clients in counts:
            print(f"{clients} clients ...", file=sys.stderr)
            tallies.append(measure(servers, session, clients, patience, first, arguments.requests))
    found = [tally.as_dict() for tally in tallies]
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    if arguments.requests is not None and not all(tally.good for tally in tallies):
        sys.exit("there are wrong, lost or hung requests, or memory that changed")


if __name__ == "__main__":
    main()
