"""The promises of every link, tested on both kinds."""

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref
from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import (
    LockstepError,
    OnnxpumaError,
    PeerLostError,
    ProtocolError,
    RemoteError,
    RequestTimeoutError,
)
from onnxpuma.transport.link import Link, Tag
from onnxpuma.transport.memory import memory_links

pytestmark = pytest.mark.timeout(60)

SESSION = bytes(range(16))
OTHER = bytes(range(16, 32))
TAG = Tag(SESSION, 3, 14, "MatMul encoder.0")

Links = tuple[Link, Link, Link]


class Caught(Thread):
    """Runs one call in a thread; `error()` waits for its end and returns the error it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.raised: OnnxpumaError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.call()
        except OnnxpumaError as error:
            self.raised = error

    def error(self, seconds: float) -> OnnxpumaError | None:
        self.join(seconds)
        assert not self.is_alive(), "the call still blocks"
        return self.raised


def test_words_arrive_whole_and_in_order(links: Links) -> None:
    words = np.arange(12, dtype=np.uint64).reshape(3, 4)
    bits = np.array([True, False, True])
    links[0].send(1, TAG, [words, b"", np.zeros((0, 7)), memoryview(b"abc"), np.uint32(7)[...], bits])
    links[0].send(1, TAG, [words + np.uint64(1)])
    got = links[1].receive(0, TAG)
    assert [len(view) for view in got] == [96, 0, 0, 3, 4, 3]
    assert np.array_equal(np.frombuffer(got[0], np.uint64).reshape(3, 4), words)
    assert bytes(got[3]) == b"abc"
    assert np.frombuffer(got[4], np.uint32)[0] == 7
    assert np.array_equal(np.frombuffer(got[5], bool), bits)
    assert np.frombuffer(links[1].receive(0, TAG)[0], np.uint64)[0] == 1


def test_every_pair_and_direction(links: Links) -> None:
    for i in range(3):
        for j in range(3):
            if i != j:
                links[i].send(j, TAG, [bytes([i, j])])
    for j in range(3):
        for i in reversed(range(3)):
            if i != j:
                assert bytes(links[j].receive(i, TAG)[0]) == bytes([i, j])


def test_a_message_of_no_buffers(links: Links) -> None:
    links[2].send(0, TAG, [])
    assert links[0].receive(2, TAG) == []


def test_long_buffers_arrive_whole(links: Links) -> None:
    sizes = [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, 5]
    sent = [np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8) for size in sizes]
    links[1].send(2, TAG, sent)
    got = links[2].receive(1, TAG)
    assert [len(view) for view in got] == sizes
    assert all(
        np.array_equal(np.frombuffer(view, np.uint8), array) for view, array in zip(got, sent, strict=True)
    )


def test_what_arrives_is_read_only_and_aligned(links: Links) -> None:
    links[0].send(1, TAG, [np.ones(5, np.uint64), np.ones(1 << 18, np.uint64), np.ones(1000, np.uint64)])
    for view in links[1].receive(0, TAG):
        assert view.readonly
        assert view.format == "B"
        assert np.frombuffer(view, np.uint64).ctypes.data % 8 == 0


def test_sending_50_megabytes_copies_nothing(links: Links) -> None:
    words = np.ones(50_000_000 // 8, np.uint64)
    alive = weakref.ref(words)
    tracemalloc.start()
    links[0].send(1, TAG, [words])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    del words  # the link keeps the caller's own array alive until it is sent, which may be soon
    links[1].timeout = 50.0
    got = links[1].receive(0, TAG)
    assert len(got[0]) == 50_000_000
    assert np.frombuffer(got[0], np.uint64).min() == 1
    del got
    deadline = time.monotonic() + 5
    while alive() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert alive() is None, "the link lets go of it afterwards"


def test_a_buffer_that_is_not_contiguous_is_refused(links: Links) -> None:
    with pytest.raises(ProtocolError, match="not C-contiguous"):
        links[0].send(1, TAG, [np.zeros((4, 4))[:, 1]])


@pytest.mark.parametrize("session", [b"", SESSION[:-1], SESSION + b"0"])
def test_a_session_id_of_another_length_is_refused(session: bytes) -> None:
    """Padded or cut, two of them would be one."""
    with pytest.raises(ProtocolError, match=f"{len(session)} bytes, not 16"):
        Tag(session, 3, 14, "MatMul")


@pytest.mark.parametrize(
    "theirs",
    [Tag(SESSION, 4, 14, TAG.label), Tag(SESSION, 3, 15, TAG.label), Tag(SESSION, 3, 14, "Gelu encoder.1")],
)
def test_out_of_step_names_both(links: Links, theirs: Tag) -> None:
    links[0].send(1, theirs, [b"words"])
    with pytest.raises(LockstepError) as caught:
        links[1].receive(0, TAG)
    assert f"party 0 sent {theirs}" in str(caught.value)
    assert f"party 1 is at {TAG}" in str(caught.value)
    assert caught.value.hint


def test_sessions_under_way_at_the_same_time_do_not_see_each_other(links: Links) -> None:
    other = Tag(OTHER, 0, 0, "")
    links[0].send(1, other, [b"1"])
    links[0].send(1, TAG, [b"a"])
    links[0].send(1, other, [b"2"])
    assert bytes(links[1].receive(0, TAG)[0]) == b"a"
    links[1].send(0, TAG, [b"b"])
    assert [bytes(links[1].receive(0, other)[0]) for _ in range(2)] == [b"1", b"2"]
    links[1].abort(OTHER, "stop")
    assert bytes(links[0].receive(1, TAG)[0]) == b"b"
    with pytest.raises(RemoteError, match="stop"):
        links[0].receive(1, other)
    links[0].send(1, TAG, [b"c"])
    assert bytes(links[1].receive(0, TAG)[0]) == b"c"


def test_leftovers_of_a_finished_session_are_dropped(links: Links) -> None:
    links[0].send(1, TAG, [b"used"])
    links[0].send(1, TAG, [b"left over"])
    links[1].receive(0, TAG)
    links[1].finish(SESSION)
    links[0].send(1, TAG, [b"late"])
    links[0].send(1, Tag(OTHER, 0, 0, ""), [b"new"])
    assert bytes(links[1].receive(0, Tag(OTHER, 0, 0, ""))[0]) == b"new"


def test_a_session_is_used_once(links: Links) -> None:
    links[0].send(1, TAG, [b""])
    links[0].finish(SESSION)
    with pytest.raises(RemoteError, match="is over"):
        links[0].send(1, TAG, [b""])


def test_abort_wakes_both_peers_at_once(links: Links) -> None:
    waiting = [Caught(lambda: links[1].receive(2, TAG)), Caught(lambda: links[2].receive(1, TAG))]
    time.sleep(0.2)
    start = time.monotonic()
    links[0].abort(SESSION, "the disk is full")
    for call in waiting:
        error = call.error(0.7)
        assert isinstance(error, RemoteError)
        assert error.message == "the disk is full"
        assert "party 0" in error.hint
    assert time.monotonic() - start < 0.7
    for link in links:
        with pytest.raises(RemoteError):
            link.send((link.party + 1) % 3, TAG, [b""])


def test_the_session_after_an_abort_works(links: Links) -> None:
    for link in links:
        link.send((link.party + 1) % 3, TAG, [b"never read"])
    links[2].abort(SESSION, "stop")
    for link in links:
        link.send((link.party + 1) % 3, Tag(OTHER, 0, 0, ""), [b"fresh"])
    for link in links:
        assert bytes(link.receive((link.party + 2) % 3, Tag(OTHER, 0, 0, ""))[0]) == b"fresh"


def test_an_abort_that_comes_before_the_session_begins_here(links: Links) -> None:
    links[0].abort(SESSION, "no such model")
    time.sleep(0.2)
    with pytest.raises(RemoteError, match="no such model"):
        links[1].send(2, TAG, [b""])


def test_silence_is_a_timeout_that_says_where(links: Links) -> None:
    links[0].timeout = 1.0
    start = time.monotonic()
    with pytest.raises(
        RequestTimeoutError, match=r"party 2 sent nothing in 1 s; party 0 is at step 3.*MatMul"
    ):
        links[0].receive(2, TAG)
    assert 0.9 < time.monotonic() - start < 2


def test_who_closed_is_lost_but_its_messages_are_not(links: Links) -> None:
    links[1].send(0, TAG, [b"last words"])
    links[1].close()
    assert bytes(links[0].receive(1, TAG)[0]) == b"last words"
    with pytest.raises(PeerLostError, match=r"party 1.*has closed its link"):
        links[0].receive(1, TAG)


def test_closing_after_the_work_does_not_disturb_the_others(links: Links) -> None:
    links[2].send(0, TAG, [b""])
    links[2].close()
    call = Caught(lambda: links[0].receive(1, TAG))
    time.sleep(0.5)
    links[1].send(0, TAG, [b""])
    assert call.error(0.5) is None


def test_closing_twice_is_closing_once(links: Links) -> None:
    links[0].close()
    links[0].close()


def test_traffic_is_counted_the_same_by_every_link(links: Links) -> None:
    header = 4 + 4 + 4 + 4 + 16 + len(TAG.label) + -(len(TAG.label) + 4) % 8 + 4
    links[0].send(1, TAG, [np.zeros(4, np.uint64), b"abc"])
    links[0].send(1, TAG, [])
    links[0].send(2, TAG, [np.zeros(2 << 20, np.uint8)])
    links[1].receive(0, TAG)
    links[1].receive(0, TAG)
    links[2].receive(0, TAG)
    sent, got = links[0].traffic, links[1].traffic
    assert sent.peers[1].payload_sent == got.peers[0].payload_received == 35
    assert sent.peers[1].bytes_sent == got.peers[0].bytes_received == 35 + (header + 16) + header
    assert sent.peers[1].messages_sent == got.messages_received == 2
    assert (sent.payload_sent, sent.messages_sent) == (35 + (2 << 20), 3)
    assert sent.payload_received == got.payload_sent == 0
    before = sent.copy()
    links[0].send(1, TAG, [b"12345678"])
    assert (sent - before).payload_sent == 8
    assert (sent - before).messages_sent == 1
    assert before.messages_sent == 3


def test_memory_hands_over_the_array_itself() -> None:
    links = memory_links()
    words = np.arange(10)
    links[0].send(1, TAG, [words])
    assert np.shares_memory(np.frombuffer(links[1].receive(0, TAG)[0], words.dtype), words)
