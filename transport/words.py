"""Messages of words between servers: a header of fixed form, and the words.

A party sends and receives some four such messages a round; protobuf took several times as long. Words that
are short together lie behind the header, in its frame.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from onnxpuma.errors import TransportError
from onnxpuma.transport.link import PLACE, Tag
from onnxpuma.transport.wire import HINT, MAX_HEADER, MOST_BUFFERS, SHORT, join, split

_COUNT = struct.Struct("<I")
_ONE = struct.Struct("<IQ")  # the number of buffers, one, and its bytes
_LONE = _COUNT.pack(0xFFFFFFFF)  # in place of their number: one buffer, which is the rest of this frame


def header_of(tag: Tag, sizes: Sequence[int]) -> bytes:
    """The header of a message of words: its place, the number of its buffers, and the bytes of each."""
    if len(sizes) == 1:
        return tag.place + _ONE.pack(1, sizes[0])
    return tag.place + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)


def encode_words(tag: Tag, buffers: Sequence[memoryview]) -> tuple[list[bytes | memoryview], int, int]:
    """The frames of a message of words, the bytes of its words, and those of its header.

    Buffers of less than SHORT bytes together travel in the first frame; else see `split`.
    """
    if len(buffers) == 1 and 0 < (total := len(buffers[0])) < SHORT:
        head = tag.place + _LONE
        return [b"".join((head, buffers[0]))], total, len(head)
    sizes = [len(buffer) for buffer in buffers]
    total = sum(sizes)
    header = header_of(tag, sizes)
    if total < SHORT:
        return [b"".join((header, *buffers))], total, len(header)
    return [header, *split(buffers)], total, len(header)


def carries_words(first: bytes) -> bool:
    """Whether a message between servers with this first frame is one of words: no protobuf begins so."""
    return first[:1] == b"\0"


def decode_words(
    first: bytes, frames: Sequence[memoryview], likely: Tag | None = None
) -> tuple[Tag, list[memoryview], int]:
    """The tag of a message of words, its buffers as `join` yields them, and the bytes of its header.

    likely: the tag that the message probably has; where it does, nothing of its place is parsed.
    Raises TransportError when the header is damaged, or the words are not those that it announces.
    """
    if not PLACE.size < len(first) <= MAX_HEADER:
        raise TransportError(f"a message of words starts with {len(first)} bytes of header", HINT)
    label = _COUNT.unpack_from(first, _COUNT.size)[0]
    end = PLACE.size + label + -(label + 4) % 8
    start = end + _COUNT.size
    if start > len(first):
        raise TransportError(f"a message of words announced a label of {label} bytes", HINT)
    # A place tells its own length, so none is the beginning of another.
    tag = likely if likely is not None and first.startswith(likely.place) else _tag_at(first[:end])
    words = memoryview(first)[start:]
    if not frames and first.startswith(_LONE, end):
        return tag, [words], start
    count = _COUNT.unpack_from(first, end)[0]
    if count > MOST_BUFFERS or 8 * count > len(words):
        raise TransportError(f"a message announced {count} buffers", HINT)
    sizes = struct.unpack_from(f"<{count}Q", words)
    words = words[8 * count :]
    return tag, join(sizes, [words, *frames] if words else frames), start + 8 * count


@lru_cache(64)
def _tag_at(place: bytes) -> Tag:
    """The tag of this place, which both peers name in a round; TransportError when it is damaged."""
    _, size, step, round, session = PLACE.unpack_from(place)
    try:
        tag = Tag(session, step, round, place[PLACE.size : PLACE.size + size].decode())
    except UnicodeDecodeError as error:
        raise TransportError(f"the label of a message of words is damaged: {error}", HINT) from error
    if tag.place != place:
        raise TransportError("the header of a message of words is damaged", HINT)
    return tag
