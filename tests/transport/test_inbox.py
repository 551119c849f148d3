"""What has arrived and nobody has asked for: by session and peer, and never more than a bounded number."""

from __future__ import annotations

import os

import pytest

from onnxpuma.errors import PeerLostError, RemoteError, TransportError
from onnxpuma.transport import inbox as inbox_module
from onnxpuma.transport.inbox import Arrival, Inbox
from onnxpuma.transport.link import Tag


def tag(session: bytes, number: int = 0) -> Tag:
    return Tag(session, 0, number, "words")


def arrival(session: bytes, number: int = 0) -> Arrival:
    return Arrival(tag(session, number), [memoryview(bytes([number]))], 0)


@pytest.fixture
def sessions() -> list[bytes]:
    return [os.urandom(16) for _ in range(3)]


def test_a_peer_may_be_ahead_in_a_session_that_has_not_begun_here(sessions: list[bytes]) -> None:
    box = Inbox(0)
    box.enter(sessions[0])
    box.put(1, arrival(sessions[1]))
    assert box.settled(1, sessions[1])
    assert not box.settled(2, sessions[1])
    assert box.take(1, tag(sessions[0])) is None
    box.enter(sessions[1])
    taken = box.take(1, tag(sessions[1]))
    assert taken is not None
    assert taken.tag == tag(sessions[1])


def test_what_ends_makes_room(sessions: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MOST_AHEAD", 4)
    box = Inbox(0)
    for session in sessions[:2]:
        for number in range(2):
            box.put(1, arrival(session, number))
    with pytest.raises(TransportError, match="nobody has asked for"):
        box.put(1, arrival(sessions[2]))
    box.put(2, arrival(sessions[2]))
    box.end(sessions[0])
    for number in range(2):
        box.put(1, arrival(sessions[2], number))
    with pytest.raises(TransportError):
        box.put(1, arrival(sessions[2], 2))
    assert box.take(1, tag(sessions[1])) is not None
    box.put(1, arrival(sessions[2], 2))
    box.forget(1)
    assert not box.settled(1, sessions[2])
    assert box.settled(2, sessions[2]), "the other peer's are there"
    for number in range(4):
        box.put(1, arrival(sessions[2], number))


def test_one_session_ends_or_all(sessions: list[bytes]) -> None:
    box = Inbox(0)
    for session in sessions:
        box.enter(session)
    box.aborted(2, sessions[0], "no such model")
    assert box.current == set(sessions[1:])
    with pytest.raises(RemoteError, match="no such model"):
        box.enter(sessions[0])
    box.lost(1, "party 1 died")
    assert box.current == set()
    for session in sessions[1:]:
        assert box.settled(2, session), "nobody waits for it"
        with pytest.raises(PeerLostError, match="party 1 died"):
            box.enter(session)
    box.enter(later := os.urandom(16))
    assert box.current == {later}, "a session after the loss is another matter"
