"""Products with a matrix that lies packed: every kernel level gives the same words as plain arithmetic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.ring import fallback, keys, native, packed
from onnxpuma.mpc.ring.words import Words

pytestmark = pytest.mark.filterwarnings("ignore:the compiled kernel")
Draw = Callable[..., Words]
FUSED = [32, 40, 48, 64]  # the widths with kernels of their own
WIDTHS = sorted({1, 2, 3, 7, 8, 12, 16, 17, 24, 31, 33, 37, 41, 47, 49, 54, 56, 63, *FUSED})
SHAPES = [(1, 1), (1, 40), (40, 1), (3, 16), (16, 3), (17, 33), (70, 31), (9, 520), (130, 66), (0, 5), (5, 0)]


def word_of(bits: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint32 if bits <= 32 else np.uint64)


def expected(a: Words, w: Words, bits: int, out: Words, turned: bool) -> Words:
    """The result mod 2^bits."""
    mask = word_of(bits).type((1 << bits) - 1)
    w = w & mask
    return (out + fallback.matmul(a, w.T if turned else w)) & mask


def check(a: Words, w: Words, bits: int, turned: bool, out: Words, packed: object = None) -> None:
    mask, right = word_of(bits).type((1 << bits) - 1), expected(a, w, bits, out, turned)
    ring.matmul_packed(a, ring.pack(w, bits) if packed is None else packed, bits, w.shape, out, turned)
    assert np.array_equal(out & mask, right)


def operands(drawn: Draw, rows: int, shape: tuple[int, int], bits: int, turned: bool) -> tuple[Words, ...]:
    """a, w and out, all bits random: those above the ring are noise."""
    inner, outer = shape[::-1] if turned else shape
    kind = word_of(bits)
    return drawn((rows, inner), kind), drawn(shape, kind, 1), drawn((rows, outer), kind, 2)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_width(drawn: Draw, level: str, bits: int, turned: bool) -> None:
    for shape in SHAPES if bits in FUSED else SHAPES[4:8]:
        for rows in (1, 2, 3, 8, 13) if bits in FUSED else (1, 5):
            a, w, out = operands(drawn, rows, shape, bits, turned)
            check(a, w, bits, turned, out)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rows", [*range(18), 25, 64, 65, 131])
def test_every_number_of_rows(drawn: Draw, level: str, rows: int, turned: bool) -> None:
    for bits in (40, 48, 53):
        a, w, out = operands(drawn, rows, (19, 45), bits, turned)
        check(a, w, bits, turned, out)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(5, 9001), (9001, 5), (2, 40_000), (300, 300)])
def test_long_matrices(drawn: Draw, level: str, shape: tuple[int, int], turned: bool) -> None:
    """Longer than the blocks of every kernel."""
    for bits in (20, 40, 46, 64):
        for rows in (1, 9):
            a, w, out = operands(drawn, rows, shape, bits, turned)
            check(a, w, bits, turned, out)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", [32, 40, 46, 48, 64])
def test_extreme_words(level: str, bits: int, turned: bool) -> None:
    """Sums of 16 x 16 bits saturate and wrap only here, and so do the sums of many largest words."""
    kind = word_of(bits)
    top = 8 * kind.itemsize - 1
    words = [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x8000_8000, (1 << bits) - 1, 1 << (bits - 1), 1 << top]
    words += [sum(0x8000 << at for at in range(0, top, 16)), sum(0x7FFF << at for at in range(0, top, 16))]
    for left in words:
        for right in words:
            shape = (33, 700)
            a = np.full((8, shape[turned]), left & ((2 << top) - 1), kind)
            w = np.full(shape, right & ((1 << bits) - 1), kind)
            out = np.zeros((8, shape[1 - turned]), kind)
            ring.matmul_packed(a, ring.pack(w, bits), bits, shape, out, turned)
            exact = left * right * a.shape[1] % (1 << bits)
            assert (out & kind.type((1 << bits) - 1) == exact).all(), (left, right)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", [32, 37, 40, 48, 64])
def test_buffers_of_any_kind(drawn: Draw, level: str, bits: int, turned: bool) -> None:
    a, w, out = operands(drawn, 5, (37, 51), bits, turned)
    stream = ring.pack(w, bits).tobytes()
    for offset in range(9):
        room = bytearray(b"\xa5" * offset + stream)
        check(a, w, bits, turned, out.copy(), memoryview(room)[offset:])
    check(a, w, bits, turned, out.copy(), stream)
    wide = np.concatenate([out, out, out], axis=1)
    kept = wide.copy()
    n = out.shape[1]
    check(a, w, bits, turned, wide[:, n : 2 * n])
    assert np.array_equal(wide[:, :n], kept[:, :n])
    assert np.array_equal(wide[:, 2 * n :], kept[:, 2 * n :])
    check(a, w, bits, turned, np.asfortranarray(out))
    check(a, w, bits, turned, out[::-1].copy()[::-1])
    check(np.asfortranarray(a), w, bits, turned, out.copy())
    check(a[::-1, ::-1].copy()[::-1, ::-1], w, bits, turned, out.copy())
    doubled = np.repeat(out, 2, axis=1)
    check(a, w, bits, turned, doubled[:, ::2])
    assert np.array_equal(doubled[:, 1::2], out)


def test_out_may_be_the_left_operand(drawn: Draw, level: str) -> None:
    a, w = drawn((7, 24)), drawn((24, 24), seed=1)
    right = expected(a.copy(), w, 40, a.copy(), False)
    ring.matmul_packed(a, ring.pack(w, 40), 40, w.shape, a)
    assert np.array_equal(a & np.uint64((1 << 40) - 1), right)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", [32, 40, 46, 64])
def test_threads_change_nothing(drawn: Draw, level: str, bits: int, turned: bool) -> None:
    a, w, out = operands(drawn, 9, (1001, 777), bits, turned)
    stream, before = ring.pack(w, bits), ring.threads()
    results = []
    try:
        for threads in (1, 3):
            ring.set_threads(threads)
            results.append(out.copy())
            ring.matmul_packed(a, stream, bits, w.shape, results[-1], turned)
    finally:
        ring.set_threads(before)
    mask = word_of(bits).type((1 << bits) - 1)
    assert np.array_equal(results[0] & mask, results[1] & mask)


KEY, INDEX = bytes(range(16)), 7
KEYED_SHAPES = [*SHAPES, (64, 384), (65, 385), (129, 383), (200, 1000), (7, 4096), (4096, 7)]


def stream_of(bits: int, shape: tuple[int, int]) -> memoryview:
    stream = np.empty((shape[0] * shape[1] * bits + 7) // 8, np.uint8).data
    ring.key_stream(KEY, INDEX, 0, stream)
    return stream


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", [1, 31, 46, 56, *FUSED])
def test_the_stream_of_a_key_is_multiplied_as_if_it_lay_there(
    drawn: Draw, level: str, bits: int, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where strips and tiles end within the stream's blocks."""
    monkeypatch.setattr(packed, "_STRIP", 1 << 15)
    for shape in KEYED_SHAPES if bits in FUSED and level != "numpy" else KEYED_SHAPES[::3]:
        for rows in (1, 2, 5, 65) if shape[0] * shape[1] < 1 << 16 else (3,):
            a, _, out = operands(drawn, rows, shape, bits, turned)
            right = out.copy()
            ring.matmul_packed(a, stream_of(bits, shape), bits, shape, right, turned)
            assert ring.matmul_keyed(a, KEY, INDEX, bits, shape, out, turned) >= 0
            mask = word_of(bits).type((1 << bits) - 1)
            assert np.array_equal(out & mask, right & mask), (shape, rows)


def test_without_vector_aes_the_words_are_the_same(drawn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        """The kernel on a processor that has none."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            refused = {"key_stream": lambda *_: False, "matmul_keyed": lambda *_: None}
            return refused.get(name) or getattr(native.native(), name)

    shape, found = (300, 777), []
    for kernel in (native.native(), Kernel()):
        for module in (keys, packed):
            monkeypatch.setattr(module, "native", lambda kernel=kernel: kernel)
        a, _, out = operands(drawn, 3, shape, 40, True)
        ring.matmul_keyed(a, KEY, INDEX, 40, shape, out, turned=True)
        found.append(out & np.uint64((1 << 40) - 1))
    assert np.array_equal(*found)


@pytest.mark.parametrize("turned", [False, True])
def test_a_key_and_arrays_of_any_kind(drawn: Draw, level: str, turned: bool) -> None:
    shape, mask = (200, 200), np.uint64((1 << 40) - 1)
    a, _, out = operands(drawn, 9, shape, 40, turned)
    right = expected(a, ring.unpack(stream_of(40, shape), 40, shape), 40, out, turned)
    doubled = np.repeat(out, 2, axis=1)
    ring.matmul_keyed(a, KEY, INDEX, 40, shape, doubled[:, ::2], turned)
    assert np.array_equal(doubled[:, ::2] & mask, right)
    assert np.array_equal(doubled[:, 1::2], out)
    found = out.copy()
    ring.matmul_keyed(np.asfortranarray(a), KEY, INDEX, 40, shape, found, turned)
    assert np.array_equal(found & mask, right)
    right = expected(a.copy(), ring.unpack(stream_of(40, shape), 40, shape), 40, a.copy(), turned)
    ring.matmul_keyed(a, KEY, INDEX, 40, shape, a, turned)
    assert np.array_equal(a & mask, right)


@pytest.mark.parametrize("turned", [False, True])
def test_threads_change_nothing_of_a_key(drawn: Draw, level: str, turned: bool) -> None:
    a, _, out = operands(drawn, 9, (1001, 777), 40, turned)
    before, results = ring.threads(), []
    try:
        for threads in (1, 3):
            ring.set_threads(threads)
            results.append(out.copy())
            ring.matmul_keyed(a, KEY, INDEX, 40, (1001, 777), results[-1], turned)
    finally:
        ring.set_threads(before)
    mask = np.uint64((1 << 40) - 1)
    assert np.array_equal(results[0] & mask, results[1] & mask)


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from onnxpuma.mpc import ring
ring.set_native_level(sys.argv[1])
page = mmap.PAGESIZE
room = mmap.mmap(-1, 9 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(room))
libc = ctypes.CDLL(None, use_errno=True)
for edge in (0, 8 * page):  # pages that nobody may read, before and behind
    assert libc.mprotect(ctypes.c_void_p(start + edge), ctypes.c_size_t(page), 0) == 0
for bits in (32, 33, 40, 48, 64):
    kind = np.uint32 if bits <= 32 else np.uint64
    for rows, shape in ((1, (33, 17)), (8, (5, 131)), (9, (64, 16)), (3, (1, 1)), (2, (40, 50))):
        w = np.arange(shape[0] * shape[1], dtype=kind).reshape(shape)
        stream = ring.pack(w, bits)
        for at in (page, 8 * page - stream.size):
            held = np.frombuffer(room, np.uint8, stream.size, at)
            held[:] = stream
            for turned in (False, True):
                a = np.ones((rows, shape[turned]), kind)
                out = np.zeros((rows, shape[1 - turned]), kind)
                ring.matmul_packed(a, held, bits, shape, out, turned)
                assert (out == w.sum(axis=int(turned), dtype=kind)).all()
print("read within")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages through libc")
def test_nothing_beyond_the_buffer_is_read(level: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", GUARDED, level]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "read within", done.stderr


@pytest.mark.parametrize(
    "call",
    [
        lambda a, p, out: ring.matmul_packed(a, p, 40, (6, 9), out),
        lambda a, p, out: ring.matmul_packed(a, p, 41, (9, 6), out),
        lambda a, p, out: ring.matmul_packed(a, p, 0, (9, 6), out),
        lambda a, p, out: ring.matmul_packed(a, p[:-1], 40, (9, 6), out),
        lambda a, p, out: ring.matmul_packed(a, p, 40, (9, 6), out, True),
        lambda a, p, out: ring.matmul_packed(a, p, 40, (9, 6), out[1:]),
        lambda a, p, out: ring.matmul_packed(a[0], p, 40, (9, 6), out),
        lambda a, p, out: ring.matmul_packed(a.astype(np.uint32), p, 40, (9, 6), out),
        lambda a, p, out: ring.matmul_packed(a, p, 40, (9, 6), out.astype(np.uint32)),
        lambda a, p, out: ring.matmul_keyed(a, KEY, INDEX, 40, (6, 9), out),
        lambda a, p, out: ring.matmul_keyed(a, KEY, INDEX, 65, (9, 6), out),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(drawn: Draw, level: str, call: Callable[..., None]) -> None:
    with pytest.raises(ProtocolError):
        call(drawn((4, 9)), ring.pack(drawn((9, 6)), 40), np.zeros((4, 6), np.uint64))
