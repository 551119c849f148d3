"""How many requests and tokens a second do three servers answer, when many clients ask at once?

    python benchmarks/throughput.py [--model digits|llama|FILE] [--clients 1,4,16,64] [--json]
    python benchmarks/throughput.py --model llama --temperature 0.8 --top-k 20 [--alike]

Three servers run as processes on this machine over encrypted loopback connections. The clients are threads of
this process, each with its own connections; they share plans, as a gateway's do. Each asks again as soon as
it has its answer. `digits` is the model of pictures that ships; `llama`, or a file with a cache, is generated
from: every client writes texts of --tokens tokens after a prompt, and its requests are tokens. Requests that
wait when a run begins are computed together (limits.batch).

Every answer is compared with a plain run: of pictures the scores, of texts the tokens; a drawn token must be
one of the likeliest that --top-k leaves. Each client has a temperature of its own, or, --alike, the same.
Latencies are those that a client sees, planning included. Memory is the resident size of server 1, at the
start and at the end of each measurement.
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

LLAMA = Path(__file__).resolve().parent.parent / "tests" / "benchmarks" / "llama" / "model.onnx"
TOLERANCE = 0.02  # of scores
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
    seconds: float = 0.0
    memory: tuple[int, int] = (0, 0)  # bytes, before and after

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
            "errors": sorted(set(self.lost)),
            "memory_before": self.memory[0],
            "memory_after": self.memory[1],
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
    def likeliest(ids: tuple[int, ...]) -> np.ndarray:
        """All tokens, the likeliest first."""
        feed: dict[str, Any] = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids))[None],
        }
        for entry in pasts:
            shape = [d if isinstance(d, int) else (1 if d == "batch" else 0) for d in entry.shape]
            feed[entry.name] = np.zeros(shape, np.float32)
        return np.argsort(-plain.run(["logits"], feed)[0][0, -1])

    def session(client: Client, number: int, over: threading.Event, answered: Answered) -> None:
        reports: list[Any] = []
        run = client.run

        def recorded(*arguments: Any, **options: Any) -> Any:
            outcome = run(*arguments, **options)
            reports.append(outcome.reports[0])
            return outcome

        client.run = recorded  # type: ignore[method-assign]
        sampling = steering(number)
        kept = 1 if sampling is None else sampling.top_k or None
        while not over.is_set():
            decoder = causal_decoder(SecureRunner(client))
            new = [number % vocabulary, *range(1, PROMPT)]
            text: tuple[int, ...] = ()
            for _ in range(tokens):
                text += tuple(new)
                drawn = None if sampling is None else draw(sampling, [], [], len(likeliest(text)))
                began = time.perf_counter()
                token = decoder.read(new, drawn=drawn).token
                answered(time.perf_counter() - began, reports[-1], token in likeliest(text)[:kept])
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

    def answered(took: float, report: Any, right: bool) -> None:
        with lock:
            tally.latencies.append(took)
            tally.together.append(report.requests)
            tally.rounds.append(report.rounds)
            tally.wrong += not right
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

    before, began = resident(servers.pids[1]), time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    over.wait(seconds)
    over.set()
    for thread in threads:
        thread.join(120)
        if thread.is_alive():
            tally.lost.append("a client hangs")
    tally.seconds = time.perf_counter() - began
    tally.memory = before, resident(servers.pids[1])
    return tally


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def show(found: Sequence[dict[str, Any]]) -> None:
    heads = (
        "clients",
        "requests",
        "a second",
        "p50 s",
        "p95 s",
        "p99 s",
        "together",
        "rounds",
        "wrong",
        "lost",
    )
    table = Table(*heads, "MB", box=None, pad_edge=False)  # fits 80 columns
    for row in found:
        table.add_row(
            *(str(row[key]) for key in ("clients", "requests")),
            f"{row['a_second']:.3g}",
            *(f"{row[key]:.2f}" for key in ("p50", "p95", "p99")),
            f"{row['together']:.1f}",
            *(str(row[key]) for key in ("rounds", "wrong", "lost")),
            f"{row['memory_before'] / 1e6:.0f} - {row['memory_after'] / 1e6:.0f}",
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", default="digits", help="digits, llama, or an ONNX file")
    parser.add_argument("--clients", default="1,4,16,64", help="how many at once, one measurement each")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
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
    found = []
    with LocalCluster(path, limits=limits, network=network) as servers, servers.client() as first:
        for clients in map(int, arguments.clients.split(",")):
            print(f"{clients} clients ...", file=sys.stderr)
            found.append(measure(servers, session, clients, arguments.seconds, first).as_dict())
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
