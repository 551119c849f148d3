"""Messages to frames and back; and the generated module matches wire.proto."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

import onnxpuma
from onnxpuma.errors import TransportError
from onnxpuma.transport import wire, wire_pb2, words
from onnxpuma.transport.link import Tag, as_bytes

TAG = Tag(b"0123456789abcdef", 7, 1 << 31, "Gather “übung”")


def test_generated_module_is_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    root = Path(onnxpuma.__file__).parent.parent
    name = "onnxpuma/transport/wire.proto"
    made = tmp_path / "descriptors"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--descriptor_set_out={made}", name]
    subprocess.run(command, check=True, timeout=60)
    [fresh] = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file
    committed = descriptor_pb2.FileDescriptorProto()
    wire_pb2.DESCRIPTOR.CopyToProto(committed)
    for file in (fresh, committed):
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    assert committed == fresh


def test_generated_module_needs_no_new_protobuf() -> None:
    source = Path(wire_pb2.__file__).read_text()
    assert "ValidateProtobufRuntimeVersion" not in source, "made by a protoc after 26; docs/wire.md says how"


@pytest.mark.parametrize(
    ("sizes", "frames"),
    [
        ([], 1),
        ([0], 1),
        ([40], 1),
        ([3, 0, 5], 1),
        ([wire.SHORT - 1], 1),
        ([wire.SHORT], 2),
        ([wire.SHORT - 1, 1], 2),
        ([1, wire.CHUNK + 1], 4),
    ],
)
def test_words_that_are_short_together_travel_with_their_tag(sizes: list[int], frames: int) -> None:
    buffers = [as_bytes(np.random.default_rng(size).bytes(size)) for size in sizes]
    message, size, header = words.encode_words(TAG, buffers)
    assert (len(message), size, header) == (frames, sum(sizes), sum(map(len, message)) - sum(sizes))
    others = [memoryview(frame) for frame in message[1:]]
    assert words.carries_words(message[0])
    tag, joined, taken = words.decode_words(message[0], others)
    assert (tag, tag.place, taken) == (TAG, TAG.place, header)
    assert joined == buffers
    assert all(np.frombuffer(b, np.uint8).ctypes.data % 8 == 0 for b in joined)


@pytest.mark.parametrize(
    ("sizes", "inside", "frames"),
    [
        ([2], b"abc", []),
        ([2, 2], b"abc", []),
        ([3], b"abc", [b"d"]),
        ([3], b"", []),
        ([], b"abc", []),
    ],
)
def test_words_that_were_not_announced(sizes: list[int], inside: bytes, frames: list[bytes]) -> None:
    with pytest.raises(TransportError):
        words.decode_words(words.header_of(TAG, sizes) + inside, [memoryview(frame) for frame in frames])


def test_a_lone_buffer_has_no_frames_behind_it() -> None:
    [first], _, _ = words.encode_words(TAG, [as_bytes(b"abc")])
    assert words.decode_words(bytes(first), [])[1] == [b"abc"]
    with pytest.raises(TransportError):
        words.decode_words(bytes(first), [memoryview(b"d")])


@pytest.mark.parametrize(
    "other",
    [
        Tag(TAG.session, TAG.step, TAG.round + 1, TAG.label),
        Tag(bytes(16), TAG.step, TAG.round, TAG.label),
        Tag(TAG.session, TAG.step, TAG.round, TAG.label + "g"),
        Tag(TAG.session, TAG.step, TAG.round, TAG.label[:-1]),
        Tag(TAG.session, TAG.step, TAG.round, ""),
    ],
)
def test_a_guess_of_the_tag_changes_nothing(other: Tag) -> None:
    for buffers in ([as_bytes(b"abc")], [as_bytes(b"abc"), as_bytes(b"d")], []):
        [first], _, _ = words.encode_words(TAG, buffers)
        plain = words.decode_words(bytes(first), [])
        for likely in (TAG, other):
            assert words.decode_words(bytes(first), [], likely) == plain
        for end in range(len(first)):  # cut short, it is damaged or leads elsewhere, whatever was guessed
            assert outcome(first[:end], TAG) == outcome(first[:end], None)


def outcome(first: bytes | memoryview, likely: Tag | None) -> object:
    try:
        return words.decode_words(bytes(first), [], likely)
    except TransportError as error:
        return error.message


def test_buffers_that_are_announced_cost_nothing() -> None:
    many = TAG.place + (wire.MOST_BUFFERS + 1).to_bytes(4, "little")
    for first in (many, many + bytes(8 * (wire.MOST_BUFFERS + 1))):
        with pytest.raises(TransportError, match="announced 65537 buffers"):
            words.decode_words(first, [])


@pytest.mark.parametrize(
    "body", [wire_pb2.Bye(), wire_pb2.Ready(session=TAG.session), wire_pb2.Hello(party=2)]
)
def test_bodies_keep_their_kind(body: wire_pb2.Bye | wire_pb2.Ready | wire_pb2.Hello) -> None:
    message = wire.decode_peer(wire.encode_peer(body))
    assert getattr(message, str(message.WhichOneof("body"))) == body


def test_what_is_no_body_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="Status is not a body of PeerMessage"):
        wire.encode_peer(wire_pb2.Status())


def test_short_buffers_share_a_frame() -> None:
    short, long = np.zeros(100, np.uint8), np.zeros(wire.SHORT, np.uint8)
    buffers = [short] * 3 + [long, short, short[:0], short, long, long]
    frames = wire.split([as_bytes(b) for b in buffers])
    assert [len(frame) for frame in frames] == [300, wire.SHORT, 200, wire.SHORT, wire.SHORT]
    many = wire.split([as_bytes(np.zeros(wire.SHORT - 1, np.uint8))] * 20)
    assert max(map(len, many)) <= wire.LONGEST_JOINED


@pytest.mark.parametrize(
    "sizes",
    [[], [0], [1], [0, 5, 0], [wire.CHUNK], [wire.CHUNK + 1, 3], [3 * wire.CHUNK], [5, 7, 0, 9], [70] * 2000],
)
def test_split_and_join(sizes: list[int]) -> None:
    buffers = [
        np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8) for i, size in enumerate(sizes)
    ]
    frames = wire.split([as_bytes(b) for b in buffers])
    assert all(0 < len(frame) <= wire.CHUNK for frame in frames)
    for frame in frames:  # no long buffer is copied
        lone = len(frame) >= wire.LONGEST_JOINED or len(buffers) == 1
        words = np.frombuffer(frame, np.uint8)
        assert any(np.shares_memory(words, b) for b in buffers) or not lone
    joined = wire.join(sizes, [memoryview(frame) for frame in frames])
    assert [bytes(view) for view in joined] == [buffer.tobytes() for buffer in buffers]


@pytest.mark.parametrize(
    ("sizes", "frames"),
    [
        ([1], []),
        ([], [b"a"]),
        ([2], [b"a"]),
        ([1, 1], [b"a", b"b"]),
        ([2, 2], [b"a", b"abc"]),
        ([wire.CHUNK + 2], [b"ab", bytes(wire.CHUNK)]),
        ([1 << 62], [b"a"]),
    ],
)
def test_frames_that_were_not_announced(sizes: list[int], frames: list[bytes]) -> None:
    with pytest.raises(TransportError):
        wire.join(sizes, [memoryview(frame) for frame in frames])


def test_a_huge_header_is_not_parsed() -> None:
    with pytest.raises(TransportError, match="bytes of header"):
        wire.decode_peer(bytes(wire.MAX_HEADER + 1))


@pytest.mark.parametrize("decode", [wire.decode_peer, wire.decode_client, wire.decode_server])
@pytest.mark.parametrize("frame", [b"", b"\x00", b"\xff" * 9])
def test_foreign_frames(decode: type, frame: bytes) -> None:
    with pytest.raises(TransportError):
        decode(frame)
