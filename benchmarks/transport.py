"""How fast do words travel between servers? Processes on this machine, encrypted TCP over loopback.

    python benchmarks/transport.py                  a table for 1 MB and 10 MB messages
    python benchmarks/transport.py --io-threads 2   with more ZeroMQ threads in every process

round trip: 8 bytes there and 8 bytes back. one way: P0 sends, P1 answers with 8 bytes. exchange: P0 and P1
send to each other at the same time. ring: each sends to the party before it, as in a resharing round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import time
from multiprocessing.queues import Queue

import numpy as np

from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.link import Link, Tag
from onnxpuma.transport.zeromq import Peer, PeerLink

SESSION = b"benchmark-16byte"


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


def exchange(link: Link, words: np.ndarray, tag: Tag) -> None:
    if link.party < 2:
        link.send(1 - link.party, tag, [words])
        link.receive(1 - link.party, tag)


def ring(link: Link, words: np.ndarray, tag: Tag) -> None:
    link.send((link.party - 1) % 3, tag, [words])
    link.receive((link.party + 1) % 3, tag)


def party(
    i: int, keys: list[KeyPair], ports: list[int], sizes: list[int], io_threads: int, out: Queue
) -> None:
    addresses = [f"tcp://127.0.0.1:{port}" for port in ports]
    peers = {j: Peer(addresses[j], keys[j].public) for j in range(3) if j != i}
    with PeerLink(i, keys[i], addresses[i], peers, timeout=60, io_threads=io_threads) as link:
        link.connect(10)
        number = 0
        jobs = [("round trip", round_trip, 8, 2000)]
        for size in sizes:
            repeats = max(5, int(4e8 / size / 3))
            jobs += [(f.__name__.replace("_", " "), f, size, repeats) for f in (one_way, exchange, ring)]
        for name, job, size, repeats in jobs:
            words = np.random.default_rng(i).integers(0, 2**63, size // 8, dtype=np.uint64)
            job(link, words, Tag(SESSION, 0, number, "warm up"))
            ring(link, words[:1], Tag(SESSION, 1, number, "start together"))
            start = time.perf_counter()
            for _ in range(repeats):
                number += 1
                job(link, words, Tag(SESSION, 2, number, name))
            if i == 0:
                out.put((name, size, (time.perf_counter() - start) / repeats))
        ring(link, np.zeros(1), Tag(SESSION, 3, 0, "end together"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default="1000000,10000000", help="bytes of the messages, with commas between"
    )
    parser.add_argument("--io-threads", type=int, default=1)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    holders = [socket.socket() for _ in range(3)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    keys = [generate() for _ in range(3)]
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [
        context.Process(target=party, args=(i, keys, ports, sizes, options.io_threads, out)) for i in range(3)
    ]
    for process in processes:
        process.start()
    for _ in range(1 + 3 * len(sizes)):
        name, size, seconds = out.get(timeout=120)
        rate = f"{size / seconds / 1e6:8.0f} MB/s each way" if size > 8 else ""
        print(f"{name:12} {size:10} bytes {seconds * 1e6:10.0f} us {rate}")
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
