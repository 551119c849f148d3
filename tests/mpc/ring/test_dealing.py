"""A dealer's pass over reals: every kernel level packs the words that encoding and subtracting yield."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.words import Words

Draw = Callable[..., Words]
REALS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
WIDTHS = [1, 8, 17, 24, 31, 32, 33, 40, 47, 48, 56, 63, 64]
COUNTS = [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 1000, 1024, 1025, 5003]


def room(count: int, bits: int, fill: int = 0) -> Words:
    return np.full((count * bits + 7) // 8, fill, np.uint8)


def streams(drawn: Draw, count: int, bits: int) -> tuple[Words, Words]:
    """Two key streams; their last bits are no zeros."""
    first, second = (drawn(len(room(count, bits)), np.uint8, seed) for seed in (3, 4))
    return first, second


def expected(values: np.ndarray, format: Format, first: Words, second: Words) -> Words:
    words = format.encode(values).reshape(-1)
    for stream in (first, second):
        words = words - fallback.unpack(stream, format.bits, words.shape)
    return fallback.pack(words, format.bits)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_words_of_every_width(drawn: Draw, level: str, real: type, bits: int) -> None:
    for count in COUNTS:
        values = np.random.default_rng(count).normal(0, 3, count).astype(real)
        format = Format(bits, min(18, bits))
        first, second = streams(drawn, count, bits)
        out = room(count, bits, 0xA5)
        largest = ring.deal_packed(values, format.fraction, bits, first, second, out)
        assert np.array_equal(out, expected(values, format, first, second))
        assert largest == np.abs(values.astype(np.float64)).max(initial=0.0)


@pytest.mark.parametrize("real", [np.float16, ml_dtypes.bfloat16])
def test_every_half(level: str, real: type) -> None:
    """All finite numbers of 16 bits, at scales that round all, some and none of their digits."""
    values = np.arange(1 << 16, dtype=np.uint16).view(real)
    with np.errstate(invalid="ignore"):
        values = values[np.isfinite(values.astype(np.float64))]
    none = room(values.size, 64)
    for fraction in (-3, 0, 1, 10, 24, 30):
        below = values[np.abs(values.astype(np.float64)) < 2.0 ** (62 - fraction)]
        out = room(below.size, 64)
        largest = ring.deal_packed(below, fraction, 64, none[: out.size], none[: out.size], out)
        assert np.array_equal(out.view(np.uint64), Format(64, fraction).encode(below))
        assert largest == np.abs(below.astype(np.float64)).max()


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_halves_become_even_and_large_numbers_keep_their_digits(level: str, real: type) -> None:
    near = np.nextafter(real(0.5), real(1)), np.nextafter(real(0.5), real(0))
    values = [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        -2.5,
        *near,
        3.0,
        1e-45,
        -1e-45,
        2.0**51 + 1,
        -(2.0**52) + 1,
    ]
    values += [2.0**62, -(2.0**62), 2.0**63 - 2.0**40, -(2.0**63), 123456789.5, -87654321.5]
    each = np.array(values, real)
    none = room(each.size, 64)
    out = room(each.size, 64)
    ring.deal_packed(each, 0, 64, none, none, out)
    assert out.view(np.int64).tolist() == [int(np.rint(float(v))) for v in each]


@pytest.mark.parametrize("real", REALS)
def test_no_number_is_reported(drawn: Draw, level: str, real: type) -> None:
    for count, place in ((1, 0), (40, 39), (5000, 1030)):
        for wrong in (np.nan, -np.nan, np.inf, -np.inf):
            values = np.ones(count, real)
            values[place] = wrong
            first, second = streams(drawn, count, 40)
            assert np.isnan(ring.deal_packed(values, 18, 40, first, second, room(count, 40)))


def test_other_numbers_and_layouts(drawn: Draw, level: str) -> None:
    first, second = streams(drawn, 24, 40)
    for values in (
        np.arange(-12, 12),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.arange(24) % 2 == 0,
    ):
        out = room(24, 40)
        assert ring.deal_packed(values, 0, 40, first, second, out) == np.abs(values.astype(np.int64)).max()
        assert np.array_equal(out, expected(values, Format(40, 0), first, second))
    turned = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6).T
    buffers = [bytes(first), memoryview(b"x" + bytes(second))[1:], memoryview(bytearray(121))[1:]]
    ring.deal_packed(turned, 18, 40, *buffers)
    assert bytes(buffers[2]) == expected(turned, Format(40, 18), first, second).tobytes()


def test_blocks_and_threads_change_nothing(drawn: Draw, level: str) -> None:
    count, before = 200_003, ring.threads()
    values = np.random.default_rng(0).normal(0, 1, count).astype(np.float32)
    values[150_000] = -77
    for bits in (32, 40, 46):
        first, second = streams(drawn, count, bits)
        right = expected(values, Format(bits, 18), first, second)
        try:
            for threads in (1, 3):
                ring.set_threads(threads)
                out = room(count, bits)
                assert ring.deal_packed(values, 18, bits, first, second, out) == 77
                assert np.array_equal(out, right)
        finally:
            ring.set_threads(before)
        half, cut = 100_000, 100_000 * bits // 8
        for piece, span in ((values[:half], slice(0, cut)), (values[half:], slice(cut, None))):
            ring.deal_packed(piece, 18, bits, first[span], second[span], out[span])
        assert np.array_equal(out, right)


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from onnxpuma.mpc import ring
ring.set_native_level(sys.argv[1])
page = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
def held(count, dtype):
    size = count * np.dtype(dtype).itemsize
    room = mmap.mmap(-1, (size // page + 2) * page)
    end = (size // page + 1) * page
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    assert libc.mprotect(ctypes.c_void_p(start + end), ctypes.c_size_t(page), 0) == 0
    return np.frombuffer(room, dtype, count, end - size)
for bits in (17, 32, 33, 40, 48, 56, 64):
    for count in (1, 5, 8, 9, 24, 1031):
        size = (count * bits + 7) // 8
        first, second, out = (held(size, np.uint8) for _ in range(3))
        for real in (np.float16, np.float32):
            values = held(count, real)
            values[:] = 1
            ring.deal_packed(values, 3, bits, first, second, out)
            assert (ring.unpack(out, bits, (count,)) == 8).all()
            copy = held(size, np.uint8)
            copy[:] = out
            assert ring.pack(ring.unpack(copy, bits, (count,)), bits).tobytes() == out.tobytes()
print("within")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages through libc")
def test_nothing_beyond_the_buffers_is_touched(level: str) -> None:
    command = [sys.executable, "-c", GUARDED, level]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "within", done.stderr


def test_what_does_not_fit_is_refused(drawn: Draw, level: str) -> None:
    values, first = np.ones(10, np.float32), room(10, 40)
    for bits, others in (
        (41, (first, first)),
        (40, (first[1:], first)),
        (40, (first, first[1:])),
        (0, (first, first)),
    ):
        with pytest.raises(ProtocolError):
            ring.deal_packed(values, 18, bits, first, *others)
