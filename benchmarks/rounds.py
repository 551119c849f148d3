"""What does a round cost beside its arithmetic? Three processes on loopback, encrypted.

    python benchmarks/rounds.py                       microseconds of processor time a round and party
    python benchmarks/rounds.py --work 1000           with so many microseconds of computation in every round
    python benchmarks/rounds.py --against /tmp/old    in turn with the package of another checkout

In a round every party sends a short message to both others and reads theirs, as a fiber of a loop like the
server's and with the record that receipts need. `main` is the processor time of the thread that runs, without
--work, `low` the 15th percentile of ten rounds, `others` that of ZeroMQ's threads; `waits` and `preempted`
are context switches. On a busy machine caches are cold in every round, and `low` says more than the mean.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

ROUNDS, TEN = 1000, 10
SESSION = b"benchmark-16byte"
LABEL = "RmsNormalization /model/layers.17/post_attention_layernorm/Mul_1"
LOOK_SECONDS = 0.05


def party(i: int, ports: list[int], keys: list[list[str]], size: int, work: float) -> dict[str, float]:
    """One party's figures, in microseconds a round."""
    from onnxpuma.mpc.party import Party
    from onnxpuma.mpc.prf import local_keys
    from onnxpuma.roles.server.fibers import Fiber, FiberLink, Fibers
    from onnxpuma.transport.chained import ChainedLink
    from onnxpuma.transport.curve import KeyPair
    from onnxpuma.transport.zeromq import Peer, PeerLink

    addresses = [f"tcp://127.0.0.1:{port}" for port in ports]
    peers = {j: Peer(addresses[j], keys[j][0]) for j in range(3) if j != i}
    words = np.arange(size // 8, dtype=np.uint64)
    figures: dict[str, float] = {}
    marks: list[float] = []

    def rounds(party: Party, count: int):  # type: ignore[no-untyped-def]
        for number in range(count):
            if number % TEN == 0:
                marks.append(time.thread_time())
            party.step, party.label = 1234, LABEL
            late = []
            for peer in (i + 1, i + 2):
                party.send(peer, words, 64)
                late.append(party.expect(peer, words.shape, 64))
            yield
            for one in late:
                one.take()
            end = time.thread_time() + work
            while time.thread_time() < end:
                pass

    def run(fiber: Fiber) -> None:
        chained = ChainedLink(FiberLink(link, fiber))
        party = Party(chained, local_keys()[i], SESSION, fiber.pass_on)
        party.run(rounds(party, 100))
        marks.clear()
        main, process, wall = time.thread_time(), time.process_time(), time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_THREAD)
        party.run(rounds(party, ROUNDS))
        after = resource.getrusage(resource.RUSAGE_THREAD)
        main, process = time.thread_time() - main, time.process_time() - process
        figures["main"] = (main / ROUNDS - work) * 1e6
        tens = sorted(after - before for before, after in pairwise(marks))
        figures["low"] = (tens[len(tens) * 15 // 100] / TEN - work) * 1e6
        figures["others"] = (process - main) / ROUNDS * 1e6
        figures["wall"] = (time.perf_counter() - wall) / ROUNDS * 1e6
        figures["waits"] = (after.ru_nvcsw - before.ru_nvcsw) / ROUNDS
        figures["preempted"] = (after.ru_nivcsw - before.ru_nivcsw) / ROUNDS
        figures["bytes"] = party.link.traffic.bytes_sent / (ROUNDS + 100)

    with PeerLink(i, KeyPair(*keys[i]), addresses[i], peers, timeout=60) as link:
        link.connect(10)
        fibers = Fibers()
        fibers.start(run)
        while len(fibers):
            if not fibers.go_on():
                link.wait(LOOK_SECONDS)
    return figures


def measured(tree: Path, size: int, work: float) -> dict[str, float]:
    """The mean figures of three parties with the package of this checkout."""
    from onnxpuma.transport.curve import generate

    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    keys = [[pair.public, pair.secret] for pair in (generate() for _ in range(3))]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--party", json.dumps([i, ports, keys, size, work])],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for i in range(3)
    ]
    parts = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    return {name: statistics.mean(part[name] for part in parts) for name in parts[0]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=float, default=0.0, help="microseconds of computation in every round")
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--party", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.party:
        print(json.dumps(party(*json.loads(options.party))))
        return
    trees = {"here": Path(__file__).resolve().parent.parent}
    if options.against:
        trees["there"] = options.against.resolve()
    for _ in range(options.repeats):
        for name, tree in trees.items():
            figures = measured(tree, options.size, options.work / 1e6)
            print(f"{name:6}", *(f"{key} {figure:7.1f}" for key, figure in figures.items()), flush=True)


if __name__ == "__main__":
    main()
