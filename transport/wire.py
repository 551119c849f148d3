"""From messages to frames and back; anything damaged or foreign becomes a TransportError.

A message is one protobuf frame, or the header of words (words.py), followed by its buffers as raw frames.
Consecutive short buffers share a frame, since a frame costs as much as some thousand bytes. A buffer longer
than CHUNK is split into several frames, so that encrypting, sending and decrypting overlap and a heartbeat
never waits long behind one frame. An empty buffer takes no frame at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from onnxpuma.errors import LONGEST_TEXT, TransportError, plain_text
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import SESSION_BYTES

WIRE_VERSION = 6
CHUNK = 1 << 20
MAX_HEADER = 1 << 20
SHORT = 1 << 13
LONGEST_JOINED = 1 << 16
MOST_BUFFERS = 1 << 16
NAME_LENGTH = 100

MessageT = TypeVar("MessageT", bound=Message)

# The fields that people read, by kind of message, and how many characters of each are kept. error_of does the
# same for the text of a failure.
_TEXTS: dict[str, dict[str, int]] = {
    "hello": {"version": 100},
    "abort": {"message": LONGEST_TEXT},
    "progress": {"label": 300},
    "status": {"version": 100, "state": 100, "detail": LONGEST_TEXT},
}

HINT = "all three servers and the client must run the same version of onnxpuma"


def encode_peer(body: Message) -> bytes:
    """The frame that carries `body` (any body of PeerMessage) from one server to another."""
    return _filled(wire_pb2.PeerMessage(), body).SerializeToString()


def encode_hellos(
    party: int,
    version: str,
    model_digest: bytes,
    components: Mapping[int, bytes],
    network: wire_pb2.Network | None = None,
) -> dict[int, bytes]:
    """The frames in which `party`, a process that has just started, introduces itself, by peer.

    components: for each peer the code that it alone is told.
    """
    hello = wire_pb2.Hello(
        wire=WIRE_VERSION,
        version=version,
        model_digest=model_digest,
        party=party,
        instance=os.urandom(16),
        network=network,
    )
    frames = {}
    for peer, component in components.items():
        hello.components = component
        frames[peer] = encode_peer(hello)
    return frames


def encode_client(body: Message, sizes: Sequence[int]) -> bytes:
    """The first frame of a client's message `body`, whose buffers have `sizes` bytes."""
    return _filled(wire_pb2.ClientMessage(sizes=sizes), body).SerializeToString()


def encode_server(request: bytes, body: Message, sizes: Sequence[int]) -> bytes:
    """The first frame of a server's answer `body` to `request`, whose buffers have `sizes` bytes."""
    return _filled(wire_pb2.ServerMessage(request=request, sizes=sizes), body).SerializeToString()


def _filled(message: MessageT, body: Message) -> MessageT:
    """`message`, with `body` in the field of its type."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is body.DESCRIPTOR:
            part = getattr(message, field.name)
            part.SetInParent()
            part.MergeFrom(body)
            return message
    raise TypeError(f"{type(body).__name__} is not a body of {type(message).__name__}")


def decode_peer(frame: bytes | memoryview) -> wire_pb2.PeerMessage:
    """Read the first frame of a message between servers.

    Raises TransportError when it is damaged, is of an unknown kind, or names a session of the wrong length.
    """
    message = wire_pb2.PeerMessage()
    _parse(message, frame, "server")
    kind = message.WhichOneof("body")
    if kind is None:
        raise TransportError("a message from a server is of an unknown kind", HINT)
    body = getattr(message, kind)
    session = getattr(body, "session", None)
    if session is not None and len(session) != SESSION_BYTES:
        raise TransportError(f"a {kind} message names a session of {len(session)} bytes", HINT)
    _make_plain(kind, body)
    return message


def decode_client(frame: bytes | memoryview) -> wire_pb2.ClientMessage:
    """Read the first frame of a message from a client; TransportError when it is damaged or unknown."""
    message = wire_pb2.ClientMessage()
    _parse(message, frame, "client")
    if message.WhichOneof("body") is None:
        raise TransportError("a message from a client is of an unknown kind", HINT)
    return message


def decode_server(frame: bytes | memoryview) -> wire_pb2.ServerMessage:
    """Read the first frame of a server's answer; TransportError when it is damaged or unknown."""
    message = wire_pb2.ServerMessage()
    _parse(message, frame, "server")
    kind = message.WhichOneof("body")
    if kind is None:
        raise TransportError("an answer from a server is of an unknown kind", HINT)
    _make_plain(kind, getattr(message, kind))
    return message


def _make_plain(kind: str, body: Message) -> None:
    for name, longest in _TEXTS.get(kind, {}).items():
        setattr(body, name, plain_text(getattr(body, name), longest))
    if isinstance(body, wire_pb2.Status):
        for model in body.models:
            model.name = plain_text(model.name, NAME_LENGTH)
            model.graphs[:] = [plain_text(graph, NAME_LENGTH) for graph in model.graphs]
        for peer in body.peers:
            peer.version = plain_text(peer.version, NAME_LENGTH)


def _parse(message: Message, frame: bytes | memoryview, sender: str) -> None:
    if len(frame) > MAX_HEADER:
        raise TransportError(f"a message from a {sender} starts with {len(frame)} bytes of header", HINT)
    try:
        message.ParseFromString(bytes(frame))
    except DecodeError as error:
        raise TransportError(f"a message from a {sender} is damaged: {error}", HINT) from error


def on_the_wire(size: int) -> int:
    """Bytes that a frame of `size` bytes takes on an encrypted connection: its box and its length."""
    box = size + 33
    return box + (2 if box < 256 else 9)


def split(buffers: Sequence[memoryview]) -> list[bytes | memoryview]:
    """The raw frames that carry `buffers` (views of bytes); long buffers are not copied."""
    frames: list[bytes | memoryview] = []
    for run in _runs([len(buffer) for buffer in buffers]):
        first = buffers[run.start]
        if len(run) > 1:
            frames.append(b"".join(buffers[place] for place in run))
        elif len(first) <= CHUNK:
            frames.append(first)
        else:
            frames.extend(first[start : start + CHUNK] for start in range(0, len(first), CHUNK))
    return frames


def _runs(sizes: Sequence[int]) -> Iterator[range]:
    """Which buffers of these sizes travel together: consecutive short ones; each long one alone."""
    start, total = 0, 0
    for place, size in enumerate(sizes):
        if size >= SHORT or total + size > LONGEST_JOINED:
            if total:
                yield range(start, place)
            start, total = place, 0
        total += size
        if size >= SHORT:
            yield range(place, place + 1)
            start, total = place + 1, 0
    if total:
        yield range(start, len(sizes))


def frames_of(sizes: Sequence[int]) -> int:
    """How many raw frames carry buffers of these sizes; TransportError when there are too many buffers."""
    if len(sizes) > MOST_BUFFERS:
        raise TransportError(f"a message announced {len(sizes)} buffers", HINT)
    return sum(-(-sum(sizes[place] for place in run) // CHUNK) for run in _runs(sizes))


def join(sizes: Sequence[int], frames: Sequence[memoryview]) -> list[memoryview]:
    """The buffers of `sizes` bytes that `frames` carry, at addresses that are multiples of 8.

    A long buffer that came in a frame of its own is not copied.

    Raises TransportError when the frames are not those that `sizes` announces.
    """
    if len(sizes) > MOST_BUFFERS:
        raise TransportError(f"a message announced {len(sizes)} buffers", HINT)
    runs = [(run, sum(sizes[place] for place in run)) for run in _runs(sizes)]
    expected = sum(-(-total // CHUNK) for _, total in runs)
    if expected != len(frames) or sum(sizes) != sum(map(len, frames)):
        raise TransportError(
            f"a message announced {sum(sizes)} bytes in {expected} frames, but {sum(map(len, frames))} bytes"
            f" in {len(frames)} frames came",
            HINT,
        )
    buffers = [memoryview(b"")] * len(sizes)
    used = 0
    for run, total in runs:
        count = -(-total // CHUNK)
        parts = frames[used : used + count]
        used += count
        if any(len(part) != CHUNK for part in parts[:-1]) or len(parts[-1]) != total - (count - 1) * CHUNK:
            raise TransportError("the frames of a message are not those that its header announces", HINT)
        if len(run) == 1:
            buffers[run.start] = (_joined(parts, total) if count > 1 else _aligned(parts[0])).toreadonly()
            continue
        offset = 0
        for place in run:
            buffers[place] = memoryview(parts[0][offset : offset + sizes[place]].tobytes())
            offset += sizes[place]
    return buffers


def _aligned(part: memoryview) -> memoryview:
    """`part`, copied unless it is aligned for words: ZeroMQ puts short frames at odd addresses."""
    if len(part) >= SHORT and np.frombuffer(part, np.uint8).__array_interface__["data"][0] % 8 == 0:
        return part
    return memoryview(part.tobytes())


def _joined(parts: Sequence[memoryview], size: int) -> memoryview:
    whole = np.empty(size, np.uint8).data
    place = 0
    for part in parts:
        whole[place : place + len(part)] = part
        place += len(part)
    return whole
