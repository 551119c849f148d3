"""How fast do words travel between servers? Processes on this machine, encrypted TCP over loopback.

    python benchmarks/transport.py                  a table for 1 MB and 10 MB messages
    python benchmarks/transport.py --io-threads 2   with more ZeroMQ threads in every process
    python benchmarks/transport.py --latency 20 --bandwidth 400 --sizes 50000000
                                                    on emulated links (benchmarks/links.py)

round trip: 8 bytes there and 8 bytes back. stream: P0 sends 20 messages and P1 answers the last with 8 bytes;
the time is that of one message. one way: P0 sends, P1 answers with 8 bytes. exchange: P0 and P1
send to each other at the same time. ring: each sends to the party before it, as in a resharing round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue

import links
import numpy as np

from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.link import Link, Tag
from onnxpuma.transport.zeromq import Peer, PeerLink

SESSION = b"benchmark-16byte"
STREAM = 20  # messages that follow each other without an answer


def round_trip(link: Link, words: np.ndarray, tag: Tag) -> None:
    if link.party == 0:
        link.send(1, tag, [words[:1]])
        link.receive(1, tag)
    elif link.party == 1:
        link.receive(0, tag)
        link.send(0, tag, [words[:1]])


def one_way(link: Link, words: np.ndarray, tag: Tag) -> None:
    if link.party == 0:
        link.send(1, tag, [words])
        link.receive(1, tag)
    elif link.party == 1:
        link.receive(0, tag)
        link.send(0, tag, [words[:1]])


def stream(link: Link, words: np.ndarray, tag: Tag) -> None:
    for _ in range(STREAM):
        if link.party == 0:
            link.send(1, tag, [words])
        elif link.party == 1:
            link.receive(0, tag)
    round_trip(link, words, tag)


def exchange(link: Link, words: np.ndarray, tag: Tag) -> None:
    if link.party < 2:
        link.send(1 - link.party, tag, [words])
        link.receive(1 - link.party, tag)


def ring(link: Link, words: np.ndarray, tag: Tag) -> None:
    link.send((link.party - 1) % 3, tag, [words])
    link.receive((link.party + 1) % 3, tag)


@dataclass(frozen=True)
class Task:
    """What the parties measure."""

    sizes: list[int]  # bytes of the messages
    round_trips: int
    total: float  # bytes that each pattern sends
    io_threads: int


def party(i: int, keys: list[KeyPair], addresses: list[str], task: Task, out: Queue) -> None:
    """addresses: of all three, as party `i` sees them."""
    peers = {j: Peer(addresses[j], keys[j].public) for j in range(3) if j != i}
    with PeerLink(i, keys[i], addresses[i], peers, timeout=60, io_threads=task.io_threads) as link:
        link.connect(10)
        number = 0
        jobs = [("round trip", round_trip, 8, task.round_trips)]
        for size in task.sizes:
            repeats = max(5, int(task.total / size))
            jobs += [(f.__name__.replace("_", " "), f, size, repeats) for f in (one_way, exchange, ring)]
            jobs.append(("stream", stream, size, max(2, repeats // STREAM)))
        for name, job, size, repeats in jobs:
            words = np.random.default_rng(i).integers(0, 2**63, size // 8, dtype=np.uint64)
            job(link, words, Tag(SESSION, 0, number, "warm up"))
            ring(link, words[:1], Tag(SESSION, 1, number, "start together"))
            start = time.perf_counter()
            for _ in range(repeats):
                number += 1
                job(link, words, Tag(SESSION, 2, number, name))
            if i == 0:
                messages = repeats * (STREAM if job is stream else 1)
                out.put((name, size, (time.perf_counter() - start) / messages))
        ring(link, np.zeros(1), Tag(SESSION, 3, 0, "end together"))


def show(hosts: list[list[str]], task: Task) -> None:
    """Run the three processes and print their figures. hosts: of all three, as each party sees them."""
    holders = [socket.socket() for _ in range(3)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    keys = [generate() for _ in range(3)]
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = []
    for i in range(3):
        addresses = [f"tcp://{host}:{port}" for host, port in zip(hosts[i], ports, strict=True)]
        processes.append(context.Process(target=party, args=(i, keys, addresses, task, out)))
    for process in processes:
        process.start()
    for _ in range(1 + 4 * len(task.sizes)):
        name, size, seconds = out.get(timeout=120)
        rate = f"{size / seconds / 1e6:8.0f} MB/s each way" if size > 8 else ""
        print(f"{name:12} {size:10} bytes {seconds * 1e6:10.0f} us {rate}", flush=True)
    for process in processes:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="1000000,10000000", help="bytes of the messages, with commas between"
    )
    parser.add_argument("--io-threads", type=int, default=1)
    links.add_options(parser)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.bandwidth is None:
        show([["127.0.0.1"] * 3] * 3, Task(sizes, 2000, 4e8 / 3, options.io_threads))
        return
    links.enter_namespace()
    hosts = [[links.HOME if i == j else links.address(i, j) for j in range(3)] for i in range(3)]
    with links.Relay(links.chosen(options), options.congestion):
        show(hosts, Task(sizes, 20, 1e8, options.io_threads))


if __name__ == "__main__":
    main()
