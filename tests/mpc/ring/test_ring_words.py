"""Packing and the fused loops: every kernel level gives the same words as plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.words import Words, word_type

Draw = Callable[..., Words]
WORDS = [np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("bits", range(1, 65))
def test_packing(drawn: Draw, level: str, bits: int) -> None:
    own = word_type(bits)
    wider = [np.dtype(kind) for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if np.dtype(kind) >= own]
    for count in (0, 1, 2, 7, 63, 64, 65, 1000, 4096, 4099, 9001):
        for kind in wider if count in (65, 4099) else [own]:
            words = drawn(count, kind)
            stream = ring.pack(words, bits)
            expected = fallback.pack(words, bits)
            assert stream.dtype == np.uint8
            assert stream.size == (count * bits + 7) // 8
            assert np.array_equal(stream, expected)
            low = (words & kind.type((1 << bits) - 1)).astype(own)
            for buffer in (stream, stream.tobytes(), memoryview(stream.tobytes())):
                back = ring.unpack(buffer, bits, (count,))
                assert back.dtype == own
                assert np.array_equal(back, low)
    assert ring.unpack(ring.pack(drawn((3, 5, 7), own), bits), bits, (3, 5, 7)).shape == (3, 5, 7)


@pytest.mark.parametrize("bits", [1, 5, 12, 33, 63])
def test_the_stream_is_little_endian(drawn: Draw, level: str, bits: int) -> None:
    words = drawn(100, word_type(bits))
    number = sum((int(word) % (1 << bits)) << (i * bits) for i, word in enumerate(words))
    stream = number.to_bytes((100 * bits + 7) // 8, "little")
    assert ring.pack(words, bits).tobytes() == stream
    assert (ring.unpack(stream, bits, (100,)) == words % (1 << bits)).all()


def test_threads_change_nothing(drawn: Draw, level: str) -> None:
    """Arrays that several threads share, of a length that no piece divides."""
    count, before = 600_001, ring.threads()
    words, mask, lut = drawn(count), drawn(count, seed=1), drawn(1 << 11, seed=2)
    narrow, table = drawn(count, np.uint16), drawn((300, 1001))
    place, turn = np.arange(300) % 7, np.arange(300) * 331 % 1001

    def results() -> list[Words]:
        packed = [ring.pack(words, bits) for bits in (1, 46, 63)] + [ring.pack(narrow, 13)]
        total = mask.copy()
        ring.axpy(total, lut, words, 0x9E3779B97F4A7C15, 53, 11, words)
        return [
            *packed,
            *(ring.unpack(packed[1], 46, (count,)), ring.unpack(packed[3], 13, (count,))),
            ring.table_bits(narrow, 2, 11, lut, mask),
            ring.pick_bits(words, narrow, 1, 6),
            ring.gather_table(lut, words, 5, 3, 11),
            ring.shift_mask(words, 7, 13),
            total,
            ring.turned_sums(table, place, turn, 7),
        ]

    try:
        ring.set_threads(1)
        one = results()
        ring.set_threads(3)
        assert all(np.array_equal(a, b) for a, b in zip(results(), one, strict=True))
    finally:
        ring.set_threads(before)


def test_whole_words_are_not_copied(drawn: Draw) -> None:
    words = drawn((4, 5))
    stream = ring.pack(words, 64)
    assert np.shares_memory(stream, words)
    assert np.shares_memory(ring.unpack(stream, 64, (4, 5)), words)
    assert not ring.unpack(stream.tobytes(), 64, (4, 5)).flags.writeable
    odd = memoryview(b"x" + stream.tobytes())[1:]
    assert np.array_equal(ring.unpack(odd, 64, (4, 5)), words)
    assert np.array_equal(ring.pack(words.T, 64), ring.pack(words.T.copy(), 64))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("entry", WORDS)
def test_tables(drawn: Draw, level: str, word: type, entry: type) -> None:
    top = 8 * np.dtype(word).itemsize
    for count in (0, 1, 33, 1000):
        words = drawn((count, 2), word)
        for shift, bits in ((0, 3), (5, 3), (top - 4, 4), (top - 1, 6)):
            digits = (words.astype(np.uint64) >> np.uint64(shift)) % (1 << bits)
            lut, mask = drawn(1 << bits, entry), drawn(words.shape, entry, 1)
            masked = ring.table_bits(words, shift, bits, lut, mask)
            assert masked.dtype == entry
            assert np.array_equal(masked, lut[digits] ^ mask)
            if 1 << bits <= 8 * np.dtype(entry).itemsize:
                picked = ring.pick_bits(mask, words, shift, bits)
                assert picked.dtype == np.uint8
                assert np.array_equal(picked, (mask.astype(np.uint64) >> digits) & 1)
                looked_up = (lut[digits].astype(np.uint64) >> digits) & 1
                assert np.array_equal(ring.pick_bits(masked, words, shift, bits) ^ picked, looked_up)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("entry", WORDS)
def test_gathers(drawn: Draw, level: str, word: type, entry: type) -> None:
    ring_size = 1 << 8 * np.dtype(word).itemsize
    for multiplier, shift, bits in ((1, 0, 4), (ring_size - 3, 4, 4), (0x1234567, 7, 1), (-5, 3, 5)):
        words, x = drawn(501, word), drawn(501, entry, 1)
        lut = drawn(1 << bits, entry, 2)
        places = [(int(w) * multiplier % ring_size >> shift) % (1 << bits) for w in words]
        gathered = ring.gather_table(lut, words, multiplier, shift, bits)
        assert gathered.dtype == entry
        assert np.array_equal(gathered, lut[places])
        for acc in (drawn(501, entry, 3), drawn(1002, entry, 3)[::2]):
            total = acc + lut[places] * x
            ring.axpy(acc, lut, words, multiplier, shift, bits, x)
            assert np.array_equal(acc, total)


def test_a_large_table(drawn: Draw, level: str) -> None:
    words, lut = drawn(3000), drawn(1 << 16)
    assert np.array_equal(ring.gather_table(lut, words, 1, 48, 16), lut[words >> np.uint64(48)])
    assert np.array_equal(ring.gather_table(lut, words[::3], 1, 48, 16), lut[words[::3] >> np.uint64(48)])


@pytest.mark.parametrize("word", WORDS)
def test_shift_and_mask(drawn: Draw, level: str, word: type) -> None:
    top = 8 * np.dtype(word).itemsize
    words = drawn((7, 90), word)
    for shift in (0, 1, top // 2, top - 1):
        for bits in (1, 5, 8, 9, 16, 20, 32, 33, 64):
            result = ring.shift_mask(words, shift, bits)
            assert result.dtype == word_type(bits)
            expected = (words.astype(np.uint64) >> np.uint64(shift)) & np.uint64((1 << bits) - 1)
            assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: ring.pack(a, 65),
        lambda a: ring.pack(a, 0),
        lambda a: ring.pack(a.astype(np.uint8), 9),
        lambda a: ring.pack(a.astype(np.float64), 8),
        lambda a: ring.unpack(bytes(7), 20, (3,)),
        lambda a: ring.unpack(bytes(9), 20, (3,)),
        lambda a: ring.unpack(bytes(8), 0, (3,)),
        lambda a: ring.table_bits(a, 0, 4, np.zeros(15, np.uint8), np.zeros((4, 4), np.uint8)),
        lambda a: ring.table_bits(a, 0, 4, np.zeros(16, np.uint8), np.zeros((4, 3), np.uint8)),
        lambda a: ring.table_bits(a, 0, 4, np.zeros(16, np.uint8), np.zeros((4, 4), np.uint16)),
        lambda a: ring.table_bits(a, 64, 4, np.zeros(16, np.uint8), np.zeros((4, 4), np.uint8)),
        lambda a: ring.pick_bits(a.astype(np.uint16), a, 0, 5),
        lambda a: ring.gather_table(np.zeros(16, np.int32), a, 1, 0, 4),
        lambda a: ring.axpy(a, np.zeros(16, np.uint64), a, 1, 0, 4, a[:2]),
        lambda a: ring.shift_mask(a, -1, 4),
        lambda a: ring.shift_mask(a, 0, 65),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(drawn: Draw, level: str, call: object) -> None:
    with pytest.raises(ProtocolError):
        call(drawn((4, 4)))  # type: ignore[operator]
