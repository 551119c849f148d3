"""The link over ZeroMQ: keys, connections, control messages, damaged frames."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import pytest
import zmq

from onnxpuma.errors import (
    AuthenticationError,
    ConfigError,
    PeerLostError,
    RemoteError,
    TransportError,
)
from onnxpuma.transport import wire, wire_pb2
from onnxpuma.transport.curve import KeyPair, generate
from onnxpuma.transport.link import Tag
from onnxpuma.transport.words import header_of
from onnxpuma.transport.zap import PEERS
from onnxpuma.transport.zeromq import Peer, PeerLink

pytestmark = pytest.mark.timeout(60)

OpenLink = Callable[..., PeerLink]
OpenCluster = Callable[..., list[PeerLink]]

SESSION = b"0123456789abcdef"
TAG = Tag(SESSION, 1, 2, "Add")


def expect(link: PeerLink, seconds: float = 2.0) -> tuple[int, object]:
    """The next control message; fails the test when none comes."""
    message = link.poll_control(seconds)
    assert message is not None
    return message


def test_hello_tells_version_and_digest(open_link: OpenLink, open_cluster: OpenCluster) -> None:
    links = open_cluster(version="1.2", model_digest=b"digest")
    links[0].connect(5)
    assert set(links[0].hello) == {1, 2}
    assert links[0].hello[2].version == "1.2"
    assert links[0].hello[2].model_digest == b"digest"
    assert links[0].hello[2].party == 2


def test_who_is_missing_is_named(open_link: OpenLink, addresses: list[str]) -> None:
    link = open_link(0)
    start = time.monotonic()
    with pytest.raises(PeerLostError) as caught:
        link.connect(0.3)
    assert time.monotonic() - start < 1
    for party in (1, 2):
        assert f"party {party} does not answer at {addresses[party]}" in caught.value.message
    with pytest.raises(PeerLostError, match="party 1"):
        link.send(1, TAG, [b""])


def test_our_key_is_not_on_their_list(
    open_link: OpenLink, addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    stranger = generate()
    open_link(1)
    link = open_link(0, keys=stranger)
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, "onnxpuma.transport"), pytest.raises(AuthenticationError) as caught:
        link.connect(10)
    assert time.monotonic() - start < 3
    assert f"party 1 ({addresses[1]}) refuses the public key of party 0" in caught.value.message
    assert stranger.public in caught.value.hint
    assert any(
        f"public key {stranger.public} is not on the list" in record.message for record in caplog.records
    )


def test_their_key_is_not_the_one_we_expect(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str]
) -> None:
    open_link(1)
    wrong = generate().public
    link = open_link(0, peers={1: Peer(addresses[1], wrong), 2: Peer(addresses[2], keys[2].public)})
    start = time.monotonic()
    with pytest.raises(AuthenticationError, match=f"{addresses[1]} does not answer as the owner"):
        link.connect(10)
    assert time.monotonic() - start < 5


def test_the_listening_side_hears_of_a_refused_key(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str]
) -> None:
    stranger = generate()
    link = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    push = zmq.Context.instance().socket(zmq.PUSH)
    push.linger = 0
    push.curve_publickey, push.curve_secretkey = stranger.public.encode(), stranger.secret.encode()
    push.curve_serverkey = keys[1].public.encode()
    push.connect(addresses[1])
    with pytest.raises(PeerLostError, match="party 0 does not answer") as caught:
        link.connect(1)
    push.close()
    assert stranger.public in caught.value.hint


def test_a_corrected_list_lets_the_peer_in_without_a_restart(
    open_link: OpenLink, meet: Callable[..., None], keys: list[KeyPair], addresses: list[str]
) -> None:
    first = open_link(0, peers={1: Peer(addresses[1], keys[1].public)})
    second = open_link(1, peers={0: Peer(addresses[0], keys[0].public)})
    first._hearing._door.allow(PEERS, {})
    with pytest.raises(AuthenticationError):
        second.connect(5)
    first._hearing._door.allow(PEERS, {keys[1].public: "1"})
    meet([first, second])


def test_without_a_key_nobody_gets_in(open_link: OpenLink, addresses: list[str]) -> None:
    link = open_link(0)
    plain = zmq.Context.instance().socket(zmq.PUSH)
    plain.linger = 0
    plain.connect(addresses[0])
    plain.send_multipart([wire.encode_peer(wire_pb2.Ready(session=SESSION))])
    assert link.poll_control(0.5) is None
    plain.close()


def test_a_server_that_says_nothing_is_missing_not_strange(
    open_link: OpenLink, keys: list[KeyPair], addresses: list[str]
) -> None:
    host, port = addresses[1].removeprefix("tcp://").split(":")
    with socket.create_server((host, int(port))):
        link = open_link(0, peers={1: Peer(addresses[1], keys[1].public)}, heartbeat=0.2)
        with pytest.raises(PeerLostError, match="party 1 does not answer"):
            link.connect(1.5)


def test_a_foreign_server_is_strange(open_link: OpenLink, keys: list[KeyPair], addresses: list[str]) -> None:
    host, port = addresses[1].removeprefix("tcp://").split(":")
    with socket.create_server((host, int(port))) as listener:
        Thread(
            target=answer_everybody, args=(listener, b"HTTP/1.0 400 Bad Request\r\n\r\n"), daemon=True
        ).start()
        link = open_link(0, peers={1: Peer(addresses[1], keys[1].public)})
        with pytest.raises(AuthenticationError, match="does not answer as the owner"):
            link.connect(5)


def answer_everybody(listener: socket.socket, answer: bytes) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)


def test_port_in_use_names_the_address(open_link: OpenLink, addresses: list[str]) -> None:
    open_link(0)
    with pytest.raises(ConfigError, match=f"{addresses[0]} is in use"):
        open_link(0)


@pytest.mark.parametrize("listen", ["tcp://203.0.113.7:7000", "tcp://nowhere", "7000"])
def test_an_address_of_no_use_is_named(keys: list[KeyPair], listen: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(listen)):
        PeerLink(0, keys[0], listen, {})


def test_a_peer_address_of_no_use_is_named(open_link: OpenLink, keys: list[KeyPair]) -> None:
    with pytest.raises(ConfigError, match="somewhere"):
        open_link(0, peers={1: Peer("somewhere", keys[1].public)})


def test_control_messages_come_beside_words(open_cluster: OpenCluster) -> None:
    links = open_cluster()
    links[0].send(1, TAG, [b"words"])
    links[0].send_control(1, wire_pb2.Start(session=SESSION, request=b"r", digest=b"d"))
    assert expect(links[1]) == (0, wire_pb2.Start(session=SESSION, request=b"r", digest=b"d"))
    links[1].send_control(0, wire_pb2.Ready(session=SESSION))
    failure = wire_pb2.Failure(error="PlanError", message="another plan")
    links[2].send_control(0, wire_pb2.Refuse(session=SESSION, failure=failure))
    got = dict([expect(links[0]), expect(links[0])])
    assert got == {1: wire_pb2.Ready(session=SESSION), 2: wire_pb2.Refuse(session=SESSION, failure=failure)}
    links[1].send_control(0, wire_pb2.Start(session=SESSION, digest=bytes(32)))
    assert expect(links[0]) == (1, wire_pb2.Start(session=SESSION, digest=bytes(32)))
    assert bytes(links[1].receive(0, TAG)[0]) == b"words"
    assert links[1].poll_control() is None


def test_an_abort_is_seen_by_who_waits_for_control(open_cluster: OpenCluster) -> None:
    links = open_cluster()
    links[2].abort(SESSION, "no")
    assert expect(links[0]) == (2, wire_pb2.Abort(session=SESSION, message="no"))


def test_waiting_for_a_link_and_other_things_at_once(open_cluster: OpenCluster) -> None:
    links = open_cluster()
    poller = zmq.Poller()
    for waited_on in links[1].waits_on():
        poller.register(waited_on, zmq.POLLIN)
    links[1].poll_control()
    links[0].send_control(1, wire_pb2.Ready(session=SESSION))
    assert poller.poll(2000)
    assert expect(links[1]) == (0, wire_pb2.Ready(session=SESSION))


def test_another_wire_version_is_refused(open_link: OpenLink, monkeypatch: pytest.MonkeyPatch) -> None:
    links = [open_link(1), open_link(2)]
    ours = wire.WIRE_VERSION
    monkeypatch.setattr(wire, "WIRE_VERSION", 99)
    old = open_link(0)
    deadline = time.monotonic() + 5
    while len(old.connected) < 2 and time.monotonic() < deadline:
        for link in links:
            assert link.connected is not None
        time.sleep(0.01)
    with pytest.raises(TransportError, match=f"wire version {ours} as party"):
        old.connect(1)


def damaged() -> list[tuple[str, list[bytes]]]:
    good = header_of(Tag(SESSION, 1, 2, "Add"), [8])
    start = wire_pb2.PeerMessage(start=wire_pb2.Start(session=b"short")).SerializeToString()
    return [
        ("no protobuf", [b"\xff" * 40]),
        ("cut short", [good[:-3], bytes(8)]),
        ("shorter than a place", [good[:20], bytes(8)]),
        ("of no kind", [b""]),
        ("a session of 5 bytes", [start]),
        ("a label that is no text", [good.replace(b"Add", b"\xff\xff\xff"), bytes(8)]),
        ("a label that does not end", [good[:4] + b"\xff" * 4 + good[8:], bytes(8)]),
        ("something behind the label", [good.replace(b"Add\0", b"Add\1"), bytes(8)]),
        ("a buffer is missing", [good]),
        ("a buffer too many", [good, bytes(8), b"x"]),
        ("a buffer too short", [good, bytes(7)]),
        ("a buffer in pieces", [good, bytes(4), bytes(4)]),
    ]


@pytest.mark.parametrize(("what", "frames"), damaged(), ids=[what for what, _ in damaged()])
def test_damaged_frames_end_the_session_and_no_more(
    open_cluster: OpenCluster, what: str, frames: list[bytes]
) -> None:
    links = open_cluster()
    links[0].send(1, TAG, [b"first"])
    links[1].receive(0, TAG)
    links[0]._lines[1].push(frames)
    start = time.monotonic()
    with pytest.raises(TransportError) as caught:
        links[1].receive(0, TAG)
    assert type(caught.value) is TransportError, what
    assert time.monotonic() - start < 1
    fresh = Tag(os.urandom(16), 0, 0, "")
    links[0].send(1, fresh, [b"works"])
    assert bytes(links[1].receive(0, fresh)[0]) == b"works"


def test_aborting_when_nobody_listens_is_harmless(open_link: OpenLink) -> None:
    link = open_link(0)
    link.abort(SESSION, "stop")
    with pytest.raises(RemoteError, match="is over"):
        link.send(1, TAG, [b""])


def test_words_of_a_process_that_is_gone_are_forgotten(
    open_link: OpenLink, open_cluster: OpenCluster, meet: Callable[..., None]
) -> None:
    links = open_cluster()
    before = links[0].hello[1].instance
    for _ in range(5):
        links[1].send(0, Tag(os.urandom(16), 0, 0, "Add"), [b"old"])
    links[1].close()
    links[1] = open_link(1)
    meet(links, lambda: links[0].hello[1].instance != before)
    links[1].send(0, TAG, [b"new"])
    assert [bytes(b) for b in links[0].receive(1, TAG)] == [b"new"]
