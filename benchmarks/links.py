"""Emulated links between four machines, three servers and a client, all of them processes of this machine.

    python benchmarks/links.py --latency 20 --bandwidth 400 [--loss 0.1]      the ping, and a bulk transfer

A relay (benchmarks/relay.py) forwards every packet, so that TCP itself runs over the emulated link, with its
windows, its slow start and its congestion control (cubic, Linux's default). The kernel needs no netem, and
the user need not be root: `enter_namespace` starts the program again in a network namespace of its own.
Machine i connects to machine j at `address(i, j)`; all machines listen at HOME.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HOME = "10.7.0.1"  # where every machine listens
INSIDE = "ONNXPUMA_NETWORK_NAMESPACE"  # this environment variable is set within the namespace
RELAY = Path(__file__).resolve().with_name("relay.py")
SETTLE_SECONDS = 11.0  # after which BBR no longer believes in the shortest ping that it saw
KEEPS_SPEED = Path("/proc/sys/net/ipv4/tcp_slow_start_after_idle")  # of the namespace
USUAL_WINDOW, TUNED_WINDOW = 10, 100  # segments that a new connection sends before the first answer
LEAST_QUEUE = 1 << 20  # bytes; a slow link queues what it carries in one round trip


@dataclass(frozen=True)
class Network:
    """Every link, in both directions."""

    name: str
    latency: float  # seconds in one direction, half of a ping
    bandwidth: float  # bits per second that one machine sends, to all others together
    loss: float = 0.0  # the part of TCP's segments that is lost

    @property
    def queue(self) -> float:
        """Bytes that wait at a machine before more are dropped."""
        return max(LEAST_QUEUE, 2 * self.latency * self.bandwidth / 8)


def address(source: int, target: int) -> str:
    """Where `source` connects in order to reach `target`."""
    return f"10.9.{source}.{target}"


class Relay:
    """The forwarding process, from the constructor to `close`, and the network that it emulates.

    congestion: TCP's congestion control. tuned: TCP is set up for long links (docs/deployment.md).
    """

    def __init__(self, network: Network, congestion: str = "cubic", *, tuned: bool = False) -> None:
        KEEPS_SPEED.write_text("0" if tuned else "1")
        command = [sys.executable, str(RELAY), congestion, str(TUNED_WINDOW if tuned else USUAL_WINDOW)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("ready")
        self._tell(network)
        self._settle = SETTLE_SECONDS if congestion == "bbr" else 0.0

    def set(self, network: Network) -> None:
        """Emulate this network from now on, for connections that have got used to another one, too."""
        self._tell(network)
        time.sleep(self._settle)

    def _tell(self, network: Network) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(network)) + "\n")
        self._process.stdin.flush()
        self._expect("set")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != word:
            raise RuntimeError("the relay ended; its message stands above")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def namespaces() -> bool:
    """Whether this machine lets its user make a network of his own."""
    trial = ["unshare", "--map-root-user", "--net", "ip", "tuntap", "add", "trial", "mode", "tun"]
    try:
        return subprocess.run(trial, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def enter_namespace() -> None:
    """Unless it runs in one, start this program again in a network namespace, which ends with it."""
    if INSIDE in os.environ:
        return
    if not namespaces():
        sys.exit(
            "this machine permits no network namespaces, or has no /dev/net/tun: nothing can be emulated"
        )
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--map-root-user", "--net", sys.executable, *sys.argv])


def measure(pings: int = 20, seconds: float = 3.0) -> tuple[float, float]:
    """The median ping between two machines in seconds, and the bits per second of a plain TCP connection."""
    with socket.create_server((HOME, 0)) as listening:
        answering = threading.Thread(target=_answer, args=(listening,), daemon=True)
        answering.start()
        with socket.create_connection((address(0, 1), listening.getsockname()[1])) as out:
            out.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = []
            for _ in range(pings):
                began = time.perf_counter()
                out.sendall(b"p")
                out.recv(1)
                times.append(time.perf_counter() - began)
            block, end = bytes(1 << 18), time.perf_counter() + seconds
            while time.perf_counter() < end:
                out.sendall(block)
            out.shutdown(socket.SHUT_WR)
            rate = struct.unpack("d", out.recv(8, socket.MSG_WAITALL))[0]
        answering.join()
    return sorted(times)[pings // 2], rate


def _answer(listening: socket.socket) -> None:
    """Return pings; then read a bulk transfer, and tell the rate of its second half, by time."""
    connection, _ = listening.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(read := connection.recv(1 << 20)) == 1:
            connection.sendall(read)
        total, seen = 0, [(time.perf_counter(), 0)]
        while part := connection.recv(1 << 20):
            total += len(part)
            seen.append((time.perf_counter(), total))
        middle = (seen[0][0] + seen[-1][0]) / 2
        at, before = next(entry for entry in seen if entry[0] >= middle)
        connection.sendall(struct.pack("d", 8 * (total - before) / (seen[-1][0] - at)))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that describe a network; without --bandwidth there is none."""
    parser.add_argument("--latency", type=float, default=20, help="milliseconds in one direction")
    parser.add_argument("--bandwidth", type=float, help="million bits a second of a machine")
    parser.add_argument("--loss", type=float, default=0.0, help="percent of the segments")
    parser.add_argument("--congestion", default="cubic", help="TCP's congestion control: cubic, bbr, reno")


def chosen(options: argparse.Namespace) -> Network:
    """The network that these options describe."""
    return Network("", options.latency / 1e3, (options.bandwidth or 400) * 1e6, options.loss / 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    options = parser.parse_args()
    enter_namespace()
    with Relay(chosen(options), options.congestion):
        ping, rate = measure()
    print(f"ping {ping * 1e3:.2f} ms, one TCP connection {rate / 1e6:.0f} Mbit/s")


if __name__ == "__main__":
    main()
