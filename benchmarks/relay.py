"""The process behind emulated links: it forwards the packets of a TUN device, late, in turn, or not at all.

benchmarks/links.py starts it; its arguments are TCP's congestion control and first window. Machine i connects
to machine j at 10.9.i.j. The relay replaces the two addresses of a packet by two others with the same sum, so
that every checksum stays right.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque

from links import HOME, Network

MACHINES = 4
DEVICE = "emulated"
HOME_BYTES = socket.inet_aton(HOME)
# Bytes of the virtio header before each packet; with it, the kernel sends many segments in one packet.
VNET = 10
GSO_SIZE = slice(4, 6)  # the segments' size in that header
SOURCE = VNET + 12  # the place of the source address; the destination's follows
SEGMENT_HEADER = 52  # IP and TCP with time stamps, of each segment
LARGEST = 65550 + VNET
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TUN_NO_PI_VNET = 0x0001 | 0x1000 | 0x4000
OFFLOAD_CHECKSUM_TCP4 = 0x01 | 0x02
FIN, PUSH = 0x01, 0x08
BATCH = 32


def exchanges() -> dict[bytes, tuple[int, bytes]]:
    """By destination: which machine sends, and the addresses that the packet is given, source first."""
    found = {}
    for i in range(MACHINES):
        for j in range(MACHINES):
            there, back = bytes([10, 9, i, j]), bytes([10, 8, i, j + 1])  # two words of equal sum
            found[there] = i, back + HOME_BYTES
            found[back] = j, there + HOME_BYTES
    return found


def forward(congestion: str, window: str) -> None:
    """Make the device, then forward packets until stdin ends; each line of stdin is a Network, as JSON."""
    device = _device(congestion, window)
    table = exchanges()
    uplinks = [Uplink() for _ in range(MACHINES)]
    network = Network("", 0.0, 1e12)
    print("ready", flush=True)
    while True:
        due = min((u.waiting[0][0] for u in uplinks if u.waiting), default=None)
        patience = None if due is None else max(0.0, due - time.perf_counter())
        ready, _, _ = select.select([device, 0], [], [], patience)
        if 0 in ready:
            line = os.read(0, 4096)
            if not line:
                return
            network = Network(**json.loads(line))
            print("set", flush=True)
        if device in ready:
            for _ in range(BATCH):
                try:
                    packet = os.read(device, LARGEST)
                except BlockingIOError:
                    break
                found = table.get(packet[SOURCE + 4 : SOURCE + 8])
                if found is not None:
                    uplinks[found[0]].take(packet, found[1], network)
        now = time.perf_counter()
        for uplink in uplinks:
            while uplink.waiting and uplink.waiting[0][0] <= now:
                os.write(device, uplink.waiting.popleft()[1])


class Uplink:
    """The packets that one machine sent, on their way."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, bytes]] = deque()  # by the time of arrival
        self._free = 0.0  # when the last packet is sent
        self._random = random.Random(0)

    def take(self, packet: bytes, addresses: bytes, network: Network) -> None:
        """Queue a packet, or drop it: the queue is full, or the link loses it."""
        now = time.perf_counter()
        start = max(now, self._free)
        if (start - now) * network.bandwidth / 8 > network.queue:
            return
        size = int.from_bytes(packet[GSO_SIZE], sys.byteorder)
        segments = -(-(len(packet) - VNET - SEGMENT_HEADER) // size) if size else 1
        self._free = start + (len(packet) - VNET + (segments - 1) * SEGMENT_HEADER) * 8 / network.bandwidth
        given = packet[:SOURCE] + addresses + packet[SOURCE + 8 :]
        if network.loss:
            lost = [place for place in range(segments) if self._random.random() < network.loss]
            pieces = without(given, size, lost) if lost else [given]
        else:
            pieces = [given]
        self.waiting.extend((self._free + network.latency, piece) for piece in pieces)


def without(packet: bytes, size: int, lost: list[int]) -> list[bytes]:
    """The packets that carry the segments of `packet`, of `size` bytes each, around those that are lost.

    The kernel itself has yet to compute TCP's checksum of a packet of several segments, so it checks none.
    """
    if not size:
        return []
    begin = SOURCE + 8 + 4 * (packet[SOURCE + 20] >> 4)  # of what TCP carries
    payload, pieces = packet[begin:], []
    for after, before in zip([-1, *lost], [*lost, len(payload)], strict=True):
        part = payload[(after + 1) * size : before * size]
        if not part:
            continue
        made = bytearray(packet[:begin]) + part
        if len(part) <= size:
            made[1:2], made[GSO_SIZE] = b"\0", b"\0\0"  # one segment alone
        sequence = int.from_bytes(made[SOURCE + 12 : SOURCE + 16], "big") + (after + 1) * size
        made[SOURCE + 12 : SOURCE + 16] = (sequence % 2**32).to_bytes(4, "big")
        if before * size < len(payload):
            made[SOURCE + 21] &= ~(FIN | PUSH)
        made[VNET + 2 : VNET + 4] = (len(made) - VNET).to_bytes(2, "big")
        made[VNET + 10 : VNET + 12] = b"\0\0"
        total = sum(struct.unpack("!10H", made[VNET : SOURCE + 8]))
        total = (total & 0xFFFF) + (total >> 16)
        made[VNET + 10 : VNET + 12] = (~(total + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
        pieces.append(bytes(made))
    return pieces


def _device(congestion: str, window: str) -> int:
    """Make the TUN device; its file descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), TUN_NO_PI_VNET))
    fcntl.ioctl(device, TUNSETOFFLOAD, OFFLOAD_CHECKSUM_TCP4)
    for command in (
        f"link set dev {DEVICE} up txqueuelen 10000",
        f"addr add {HOME}/32 dev {DEVICE}",
        f"route add 10.8.0.0/15 dev {DEVICE} src {HOME} congctl {congestion} initcwnd {window}",
        "link set lo up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: wake when the time has come, not 50 us later
    return device


if __name__ == "__main__":
    forward(*sys.argv[1:])
