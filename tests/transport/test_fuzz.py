"""Whatever arrives over a wire is either understood or refused with an error of this package."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpuma.errors import OnnxpumaError, TransportError
from onnxpuma.transport import wire, wire_pb2, words
from onnxpuma.transport.failure import error_of, most_telling
from onnxpuma.transport.inbox import Arrival, Inbox
from onnxpuma.transport.link import Tag, as_bytes
from tests.fuzz import FEW, MANY, damaged, thorough

SESSION = b"0123456789abcdef"
TAG = Tag(SESSION, 3, 7, "MatMul layer.0")
BUFFERS = [bytes(16), os.urandom(40), b"", bytes(range(256)) * 40, b"x" * 8]
SIZES = [len(buffer) for buffer in BUFFERS]
RAW = [bytes(frame) for frame in wire.split([as_bytes(buffer) for buffer in BUFFERS])]
FAILURE = wire_pb2.Failure(error="PlanError", message="another plan", hint="install the same version")


def peer_messages() -> list[list[bytes]]:
    hello = wire_pb2.Hello(wire=2, version="0.1", model_digest=bytes(48), party=1, instance=bytes(16))
    bodies = [
        hello,
        wire_pb2.Start(session=SESSION, request=bytes(16), digest=bytes(32)),
        wire_pb2.Ready(session=SESSION),
        wire_pb2.Refuse(session=SESSION, failure=FAILURE),
        wire_pb2.Abort(session=SESSION, message="stop"),
        wire_pb2.Bye(),
    ]
    sent = [
        [bytes(frame) for frame in words.encode_words(TAG, [as_bytes(b) for b in buffers])[0]]
        for buffers in (BUFFERS, BUFFERS[:3], BUFFERS[:1])
    ]
    return [*sent, *([wire.encode_peer(body)] for body in bodies)]


def client_messages() -> list[list[bytes]]:
    inputs = [
        wire_pb2.Array(name="ids", dtype="int64", shape=[2, 3], secret=True, buffers=6),
        wire_pb2.Array(name="mask", dtype="int64", shape=[2, 3], buffers=1),
    ]
    held = wire_pb2.Held(handle=bytes(16), name="past")
    request = wire_pb2.Request(
        id=bytes(16), model_digest=bytes(32), version="0.1", inputs=inputs, outputs=["y"], release=[held]
    )
    return [
        [wire.encode_client(request, SIZES), *RAW],
        [wire.encode_client(wire_pb2.StatusQuery(tag=b"tag"), [])],
        [wire.encode_client(wire_pb2.Cancel(request=bytes(16)), [])],
    ]


def server_messages() -> list[list[bytes]]:
    outputs = [wire_pb2.Array(name="y", dtype="float32", shape=[2, 8], ring_bits=64, buffers=1)]
    bodies = [
        wire_pb2.Accepted(session=SESSION),
        wire_pb2.Queued(ahead=3),
        wire_pb2.Progress(step=1, steps=2, label="Add"),
        FAILURE,
        wire_pb2.Status(version="0.1", state="idle"),
    ]
    result = wire.encode_server(bytes(16), wire_pb2.Result(outputs=outputs), SIZES)
    return [[result, *RAW], *([wire.encode_server(bytes(16), body, [])] for body in bodies)]


def read_as_peer(frames: list[bytes]) -> None:
    """Read frames as a server does from another server, in the middle of a session."""
    inbox = Inbox(0)
    inbox.enter(SESSION)
    if words.carries_words(frames[0]):
        inbox.put(1, Arrival(*words.decode_words(frames[0], [memoryview(frame) for frame in frames[1:]])))
        arrival = inbox.take(1, TAG)
        assert arrival is None or arrival.tag == TAG
        return
    message = wire.decode_peer(frames[0])
    kind = str(message.WhichOneof("body"))
    if kind == "abort":
        inbox.aborted(1, message.abort.session, message.abort.message)
        inbox.enter(SESSION)
    elif kind == "refuse":
        raise error_of(message.refuse.failure, 1)


def read_as_server(frames: list[bytes]) -> None:
    """Read frames as a server does from a client."""
    message = wire.decode_client(frames[0])
    assert wire.frames_of(message.sizes) >= 0
    buffers = wire.join(message.sizes, [memoryview(frame) for frame in frames[1:]])
    assert [len(buffer) for buffer in buffers] == list(message.sizes)


def read_as_client(frames: list[bytes]) -> None:
    """Read frames as a client does from a server."""
    message = wire.decode_server(frames[0])
    buffers = wire.join(message.sizes, [memoryview(frame) for frame in frames[1:]])
    assert [len(buffer) for buffer in buffers] == list(message.sizes)
    if message.WhichOneof("body") == "failure":
        raise most_telling([error_of(message.failure, 2), error_of(FAILURE, 1)])


READERS = {
    "peer": (read_as_peer, peer_messages()),
    "server": (read_as_server, client_messages()),
    "client": (read_as_client, server_messages()),
}


@pytest.mark.parametrize("side", READERS)
def test_what_is_whole_is_understood(side: str) -> None:
    read, messages = READERS[side]
    for frames in messages:
        with suppress(OnnxpumaError):
            read(frames)


def refuses(read: Callable[[list[bytes]], None], frames: list[bytes]) -> None:
    with suppress(OnnxpumaError):
        read(frames)


@pytest.mark.parametrize("side", READERS)
@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.timeout(1200)
def test_damage_is_refused(side: str, examples: int) -> None:
    read, messages = READERS[side]

    @thorough(examples)
    @given(damaged(messages))
    def every(frames: list[bytes]) -> None:
        refuses(read, frames)

    every()


@thorough(FEW)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.lists(st.binary(max_size=64), max_size=8))
def test_sizes_that_are_announced_cost_nothing(sizes: list[int], frames: list[bytes]) -> None:
    """A header may announce 2^64 bytes; nothing of that size is allocated."""
    if sum(sizes) == sum(map(len, frames)):
        return
    with pytest.raises(TransportError):
        wire.join(sizes, [memoryview(frame) for frame in frames])


def test_too_many_buffers_are_refused() -> None:
    sizes = [0] * (wire.MOST_BUFFERS + 1)
    with pytest.raises(TransportError, match="announced 65537 buffers"):
        wire.join(sizes, [])
    with pytest.raises(TransportError, match="announced 65537 buffers"):
        wire.frames_of(sizes)


def test_a_peer_cannot_be_ahead_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxpuma.transport.inbox.MOST_AHEAD", 10)
    inbox = Inbox(0)
    inbox.enter(SESSION)
    for number in range(10):
        inbox.put(1, Arrival(Tag(bytes([number]) * 16, 0, 0, ""), [], 0))
    with pytest.raises(TransportError, match="that nobody has asked for"):
        inbox.put(1, Arrival(TAG, [], 0))
    inbox.put(2, Arrival(TAG, [], 0))
    assert inbox.take(2, TAG) is not None


@thorough(FEW)
@given(st.text(max_size=40), st.text(max_size=60))
def test_any_failure_that_is_reported_becomes_an_error(name: str, message: str) -> None:
    error = error_of(wire_pb2.Failure(error=name, message=message), 1)
    assert isinstance(error, OnnxpumaError)
    for other in ("OnnxpumaError", "annotations", "__class__", "__name__"):
        assert isinstance(error_of(wire_pb2.Failure(error=other), 1), OnnxpumaError)
