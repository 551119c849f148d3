"""cluster.toml: reading it; and every mistake names the file, the key and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxpuma.cluster_template import write_cluster_template
from onnxpuma.config import PartyConfig, read_cluster
from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import SECRET_PREFIX

KEYS = [  # of no secret key that anybody has; the same in each worker of pytest, which names tests by them
    "".join(chr(ord("a") + (7 * i + 3 * j) % 26) for j in range(40)) for i in range(4)
]
TEXT = "".join(
    f"""
[[party]]
name = "p{i}"
host = "server{i}.example.org"
peer_port = 7000
client_port = 7100
public_key = '{KEYS[i]}'
"""
    for i in range(3)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cluster.toml"


def test_the_least_that_is_needed(path: Path) -> None:
    path.write_text(TEXT)
    cluster = read_cluster(path)
    assert [party.name for party in cluster.parties] == ["p0", "p1", "p2"]
    assert cluster.parties[1].peer_address == "tcp://server1.example.org:7000"
    assert cluster.parties[1].client_address == "tcp://server1.example.org:7100"
    assert cluster.parties[1].peer_listen == "tcp://*:7000"
    assert cluster.parties[1].client_listen == "tcp://*:7100"
    assert cluster.clients == {}
    assert cluster.timeouts.heartbeat == 10
    assert cluster.party_of(KEYS[2]) == 2
    assert cluster.party_of(KEYS[3]) is None


def test_all_that_can_be_said(path: Path) -> None:
    path.write_text(
        TEXT
        + f"listen = '127.0.0.1'\n[clients]\n'a ward' = '{KEYS[3]}'\n"
        + "[timeouts]\nconnect = 1\nrequest = 2.5\nheartbeat = 3\n[threads]\ncompute = 4\nio = 5\n"
        + "[network]\nlatency_ms = 40\nbandwidth_mbps = 250.5\n"
    )
    cluster = read_cluster(path)
    assert cluster.parties[2].peer_listen == "tcp://127.0.0.1:7000"
    assert cluster.clients == {"a ward": KEYS[3]}
    assert (cluster.timeouts.connect, cluster.timeouts.request, cluster.timeouts.heartbeat) == (1, 2.5, 3)
    assert (cluster.threads.compute, cluster.threads.io) == (4, 5)
    assert (cluster.network.latency_ms, cluster.network.bandwidth_mbps) == (40, 250.5)


SIGNING = [f"ed25519:{i}{'ab' * 31}c" for i in range(3)]


def signed(keys: list[str]) -> str:
    """TEXT, with the signing keys of the parties."""
    return "".join(
        f"[[party]]{part}" + (f"signing_key = '{key}'\n" if key else "")
        for part, key in zip(TEXT.split("[[party]]")[1:], keys, strict=True)
    )


def test_receipts_are_on_where_all_three_sign(path: Path) -> None:
    path.write_text(TEXT)
    assert read_cluster(path).signers is None
    path.write_text(signed(SIGNING))
    assert read_cluster(path).signers == tuple(SIGNING)
    path.write_text(signed(SIGNING) + "[receipts]\non = false\n")
    assert read_cluster(path).signers is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (signed([SIGNING[0], "", SIGNING[2]]), "party 1 has no signing_key, others have"),
        (signed([SIGNING[0], SIGNING[0], SIGNING[2]]), "party 0 and party 1 have the same signing key"),
        (signed([SIGNING[0], KEYS[1], SIGNING[2]]), "party 1: signing_key is not the public half"),
        (signed(SIGNING) + "[receipts]\non = 1\n", "receipts.on is 1"),
        (signed(SIGNING) + "[receipts]\nof = true\n", "receipts.of is not a known key"),
    ],
)
def test_mistakes_in_signing_keys(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_cluster(path)


def test_an_ipv6_host_is_put_in_brackets(path: Path) -> None:
    path.write_text(TEXT.replace("server0.example.org", "2001:db8::1"))
    assert read_cluster(path).parties[0].peer_address == "tcp://[2001:db8::1]:7000"


def test_a_written_file_is_read_again(path: Path) -> None:
    parties = [
        PartyConfig(f'"{i}"', "127.0.0.1", 7000 + i, 7100 + i, KEYS[i], "127.0.0.1", SIGNING[i])
        for i in range(3)
    ]
    write_cluster_template(path, parties, {"the ward": KEYS[3]})
    cluster = read_cluster(path)
    assert list(cluster.parties) == parties
    assert cluster.clients == {"the ward": KEYS[3]}


def test_a_file_to_fill_in_says_so(path: Path) -> None:
    write_cluster_template(path)
    with pytest.raises(ConfigError, match="party 0: public_key is not filled in"):
        read_cluster(path)


def test_a_file_is_not_overwritten(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_cluster_template(path)
    assert path.read_text() == "mine"


MISTAKES = [
    ('host = "server1.example.org"\n', "", "party 1: host is missing", "host ="),
    ('host = "server1.example.org"', "host = 5", "party 1: host is 5", "quotes"),
    ("server1.example.org", "tcp://server1", "party 1: host is 'tcp://server1'", "alone"),
    ("server1.example.org", "server1:7000", "party 1: host is 'server1:7000'", "alone"),
    ("server1.example.org", "*", "party 1: host is '*'", "alone"),
    (
        "server1.example.org",
        "server0.example.org",
        "party 0 (peer_port) and party 1 (peer_port) have the same",
        "port",
    ),
    ('name = "p1"', 'name = "p0"', "party 0 and party 1 have the same name p0", "own"),
    ('name = "p1"', 'nam = "p1"', "party 1: nam is not a known key", "did you mean name?"),
    ('name = "p1"', 'name = ""', "party 1: name is ''", "text"),
    (KEYS[1], KEYS[0], "party 0 and party 1 have the same public key", "keygen"),
    (KEYS[1], "x", "party 1: public_key is not a public key", "40 characters"),
    (KEYS[1], SECRET_PREFIX + "x" * 40, "party 1: public_key contains a secret key", "no longer secret"),
    ('[[party]]\nname = "p2"', '[[parties]]\nname = "p2"', "parties is not a known key", "party"),
]
PORTS = [
    ("0", "0"),
    ("65536", "65536"),
    ("-1", "-1"),
    ('"7000"', "'7000'"),
    ("7000.5", "7000.5"),
    ("true", "True"),
]


@pytest.mark.parametrize(("old", "new", "message", "hint"), MISTAKES)
def test_mistakes_in_a_party(path: Path, old: str, new: str, message: str, hint: str) -> None:
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_cluster(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(("written", "shown"), PORTS)
def test_ports_that_are_none(path: Path, written: str, shown: str) -> None:
    path.write_text(TEXT.replace("peer_port = 7000", f"peer_port = {written}", 1))
    with pytest.raises(ConfigError, match="from 1 to 65535") as caught:
        read_cluster(path)
    assert f"party 0: peer_port is {shown}" in caught.value.message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[[party]]\nname = 'p3'\n", "has 4 [[party]] tables"),
        (f"[clients]\nward = '{KEYS[0]}'\n", "party 0 and clients.ward have the same public key"),
        ("[clients]\nward = 'x'\n", "clients.ward is not a public key"),
        ("[timeouts]\nconnect = 0\n", "timeouts.connect is 0"),
        ("[timeouts]\nrequest = '5 s'\n", "timeouts.request is '5 s'"),
        ("[timeouts]\nheartbeats = 5\n", "timeouts.heartbeats is not a known key"),
        ("[threads]\nio = 0\n", "threads.io is 0"),
        ("[threads]\ncompute = 1.5\n", "threads.compute is 1.5"),
        ("[network]\nlatency_ms = -1\n", "network.latency_ms is -1"),
        ("[network]\nlatency_ms = '40 ms'\n", "network.latency_ms is '40 ms'"),
        ("[network]\nbandwidth_mbps = -1\n", "network.bandwidth_mbps is -1"),
        ("[network]\nbandwidth_mbps = inf\n", "network.bandwidth_mbps is inf"),
        ("[network]\nbandwidth = 100\n", "network.bandwidth is not a known key"),
        ("clients\n", "is not TOML"),
        ("[other]\n", "other is not a known key"),
    ],
)
def test_mistakes_elsewhere(path: Path, more: str, message: str) -> None:
    path.write_text(TEXT + more)
    with pytest.raises(ConfigError) as caught:
        read_cluster(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("party = 5", r"something other than \[\[party\]\] tables"),
        ("party = [1, 2, 3]", "party 0: not a table"),
        ("clients = 5\n" + TEXT, "clients is not a table"),
        ("", r"has 0 \[\[party\]\] tables"),
    ],
)
def test_tables_of_the_wrong_kind(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_cluster(path)


def test_two_ports_of_one_party_are_the_same(path: Path) -> None:
    path.write_text(TEXT.replace("7100", "7000"))
    with pytest.raises(ConfigError, match=r"party 0 \(peer_port\) and party 0 \(client_port\)"):
        read_cluster(path)


def test_a_missing_or_unreadable_file(path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read_cluster(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        read_cluster(path)
