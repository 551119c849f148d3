"""Emulated links delay, limit and lose what they say; a small model runs over them in the predicted time."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import links
import pytest
import relay

FOLDER = Path(links.__file__).parent


def run(script: str, *options: str) -> str:
    """The output of a benchmark, which enters a network namespace by itself."""
    if not links.namespaces():
        pytest.skip("this machine permits no network namespaces, or has no /dev/net/tun")
    command = [sys.executable, str(FOLDER / script), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


def ping_and_rate(*options: str) -> tuple[float, float]:
    """Milliseconds and Mbit/s, as TCP sees them."""
    found = re.fullmatch(r"ping (\S+) ms, one TCP connection (\d+) Mbit/s\n", run("links.py", *options))
    assert found is not None
    return float(found[1]), float(found[2])


def test_the_ping_is_twice_the_latency_and_the_rate_is_not_exceeded() -> None:
    for _ in range(3):  # a machine that does other things holds packets up, and lets them go at once
        ping, rate = ping_and_rate("--latency", "20", "--bandwidth", "40")
        if ping < 60 and 15 < rate < 44:
            break
    assert 40 <= ping < 60
    assert 15 < rate < 44


def test_a_link_that_loses_segments_slows_tcp_down() -> None:
    _, rate = ping_and_rate("--latency", "20", "--bandwidth", "100", "--loss", "2")
    assert 0.1 < rate < 20  # 3.5 by the formula of Mathis: segments of 1448 bytes, 1.22 / ping / sqrt(loss)


def test_words_between_servers_take_the_way_over_the_links() -> None:
    said = run("transport.py", "--latency", "10", "--bandwidth", "200", "--sizes", "1000000")
    found = re.search(r"round trip +8 bytes +(\d+) us", said)
    assert found is not None
    assert 20_000 <= int(found[1]) < 40_000


@pytest.mark.slow
def test_the_smallest_model_takes_at_least_what_its_rounds_take() -> None:
    said = run("network.py", "--quick", "--only", "digits", "--networks", "region", "--json")
    ((region,),) = json.loads(said).values()
    assert region["links"] == pytest.approx(region["rounds"] * 1e-3, rel=0.1)
    assert region["predicted"] == region["links"] + region["computing"]
    assert region["links"] < region["seconds"] < region["links"] + 60


def test_the_relay_exchanges_addresses_for_others_of_equal_sum() -> None:
    for target, (_, addresses) in relay.exchanges().items():
        there, back = struct.unpack("!2H", target), struct.unpack("!2H", addresses[:4])
        assert sum(there) == sum(back)
        assert relay.exchanges()[addresses[:4]][1][:4] == target


def test_a_lost_segment_leaves_those_around_it() -> None:
    size = 4
    options, payload = bytes(12), b"aaaabbbbccccdd"
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 2**32 - 4, 0, 8 << 4, relay.PUSH, 0, 0, 0) + options
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 52 + len(payload), 0, 0, 64, 6, 0, bytes(4), bytes(4))
    header = struct.pack("=BBHHHH", 1, 1, 52, size, 20, 16)
    first, second = relay.without(header + ip + tcp + payload, size, [2])
    assert (first[relay.VNET + 52 :], second[relay.VNET + 52 :]) == (b"aaaabbbb", b"dd")
    sequences = [int.from_bytes(made[relay.VNET + 24 : relay.VNET + 28], "big") for made in (first, second)]
    assert sequences == [2**32 - 4, 8]
    assert (first[relay.VNET + 33], second[relay.VNET + 33]) == (0, relay.PUSH)  # flags
    assert (first[1], second[1]) == (1, 0)  # the second is one segment alone
    for made in (first, second):
        total = sum(struct.unpack("!10H", made[relay.VNET : relay.VNET + 20]))
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
        assert int.from_bytes(made[relay.VNET + 2 : relay.VNET + 4], "big") == len(made) - relay.VNET
