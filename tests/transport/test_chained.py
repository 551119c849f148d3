"""Chains: both ends of a link compute the same ones, and any change of a message changes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onnxpuma.errors import RemoteError
from onnxpuma.transport.chained import CHAIN_BYTES, LONG, ChainedLink, Passed, WrappedLink, message_digest
from onnxpuma.transport.link import Buffer, Tag, as_bytes
from onnxpuma.transport.memory import memory_links

KEY = b"k" * 32
TAG = Tag(b"s" * 16, 3, 7, "MatMul one")
WORDS: list[Buffer] = [np.arange(5, dtype=np.uint64), b"", b"abc"]


def digest(tag: Tag, buffers: Sequence[Buffer]) -> bytes:
    return message_digest(tag, [as_bytes(buffer) for buffer in buffers])


def test_both_ends_keep_the_same_chain_of_each_direction() -> None:
    links = [ChainedLink(link) for link in memory_links(timeout=5.0)]
    for round in range(3):
        links[0].send(1, Tag(TAG.session, 0, round, "x"), WORDS)
        links[1].send(0, Tag(TAG.session, 0, round, "x"), [b"other"])
        assert [bytes(b) for b in links[1].receive(0, Tag(TAG.session, 0, round, "x"))][2] == b"abc"
        links[0].receive(1, Tag(TAG.session, 0, round, "x"))
    there = links[0].sent[1].chain(KEY)
    assert len(there) == CHAIN_BYTES
    assert links[1].received[0].chain(KEY) == there
    assert links[1].sent[0].chain(KEY) == links[0].received[1].chain(KEY) != there
    assert links[0].sent[1].chain(b"l" * 32) != there
    assert links[0].traffic.messages_sent == 3
    assert links[0].party == 0


@pytest.mark.parametrize(
    ("tag", "buffers"),
    [
        (Tag(b"t" * 16, 3, 7, "MatMul one"), WORDS),
        (Tag(b"s" * 16, 4, 7, "MatMul one"), WORDS),
        (Tag(b"s" * 16, 3, 8, "MatMul one"), WORDS),
        (Tag(b"s" * 16, 3, 7, "MatMul two"), WORDS),
        (TAG, WORDS[:2]),
        (TAG, [*WORDS, b""]),
        (TAG, [WORDS[0], b"abc", b""]),
        (TAG, [WORDS[0], b"a", b"bc"]),
        (TAG, [np.arange(5, dtype=np.uint64) ^ np.uint64(1), b"", b"abc"]),
    ],
)
def test_every_part_of_a_message_counts(tag: Tag, buffers: Sequence[Buffer]) -> None:
    assert digest(tag, buffers) != digest(TAG, WORDS)


def test_the_order_of_messages_counts() -> None:
    one, two = Passed(), Passed()
    for passed, order in ((one, (b"a", b"b")), (two, (b"b", b"a"))):
        for buffer in order:
            passed.take(TAG, [buffer])
    assert one.chain(KEY) != two.chain(KEY)
    assert sorted(one.digests) == sorted(two.digests)


def test_long_messages_keep_their_place_among_short_ones() -> None:
    """A thread of its own digests the long ones; the chain is that of the order in which they passed."""
    passed, order = Passed(), [bytes(LONG), b"short", bytes([1]) * LONG, b"", bytes([2]) * (LONG - 1)]
    for buffer in order:
        passed.take(TAG, [buffer])
    assert passed.digests == [digest(TAG, [buffer]) for buffer in order]


def test_a_message_whose_sending_failed_may_have_left_and_is_kept() -> None:
    """So a receiver never has more messages than the record of their sender."""

    class Failing(WrappedLink):
        def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
            super().send(peer, tag, buffers)
            raise RemoteError("another party ended the session")

    links = memory_links(timeout=5.0)
    sender, receiver = ChainedLink(Failing(links[0])), ChainedLink(links[1])
    with pytest.raises(RemoteError):
        sender.send(1, TAG, WORDS)
    receiver.receive(0, TAG)
    assert sender.sent[1].digests == receiver.received[0].digests
