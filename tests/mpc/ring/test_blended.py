"""Products with the blend of two components: the words are those of a blend that is made first."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.ring import blended, fallback, keys, native, packed
from onnxpuma.mpc.ring.blended import Component, Stream
from onnxpuma.mpc.ring.words import Words

pytestmark = pytest.mark.filterwarnings("ignore:the compiled kernel")
Draw = Callable[..., Words]
FUSED = [32, 40, 48, 64]  # the widths with kernels of their own
SHAPES = [
    (1, 1),
    (1, 40),
    (40, 1),
    (3, 16),
    (17, 33),
    (70, 31),
    (0, 5),
    (5, 0),
    (65, 385),
    (129, 383),
    (4, 3000),
]
STREAMS = Stream(bytes(range(16)), 7, 160), Stream(bytes(range(16, 32)), 2, 40)


def mask_of(bits: int) -> np.unsignedinteger[Any]:
    return np.dtype(np.uint32 if bits <= 32 else np.uint64).type((1 << bits) - 1)


def in_memory(one: Component, bits: int, shape: tuple[int, int]) -> memoryview:
    """The packed words of a stream, which may begin within a block."""
    assert isinstance(one, Stream)
    block, before = divmod(one.start, keys.BLOCK_BYTES)
    stream = np.empty(before + packed.packed_size(bits, shape), np.uint8).data
    ring.key_stream(one.key, one.number, block, stream)
    return stream[before:]


def check(
    drawn: Draw, rows: int, bits: int, shape: tuple[int, int], pair: tuple[Component, Component], turned: bool
) -> None:
    """Against plain arithmetic, x - y and 2 x + y."""
    mask = mask_of(bits)
    kind = mask.dtype
    inner, outer = shape[::-1] if turned else shape
    a, out = drawn((rows, inner), kind), drawn((rows, outer), kind, 1)
    x, y = (
        ring.unpack(in_memory(one, bits, shape) if isinstance(one, Stream) else one, bits, shape).astype(kind)
        for one in pair
    )
    for minus in (False, True):
        w = (x - y if minus else x + x + y) & mask
        right = (out + fallback.matmul(a, w.T if turned else w)) & mask
        found = out.copy()
        assert ring.matmul_blended(a, *pair, minus, bits, shape, found, turned) >= 0
        assert np.array_equal(found & mask, right), (shape, rows, minus)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bits", [1, 31, 46, *FUSED])
def test_components_from_keys_and_in_memory(
    drawn: Draw, level: str, bits: int, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where strips and tiles end within the streams' blocks."""
    monkeypatch.setattr(packed, "_STRIP", 1 << 15)
    for place, shape in enumerate(SHAPES):
        held = tuple(in_memory(one, bits, shape) for one in STREAMS)
        pairs = list(itertools.product(*zip(STREAMS, held, strict=True)))
        for rows in (1, 9):
            check(drawn, rows, bits, shape, pairs[(place + rows) % 4], turned)
    check(drawn, 66, bits, (20, 31), STREAMS, turned)


@pytest.mark.parametrize("bits", FUSED)
def test_extreme_words(level: str, bits: int) -> None:
    """Each of 2 x + y and x - y leaves the ring somewhere, and no bit reaches the word beside it."""
    kind, top = mask_of(bits).dtype, (1 << bits) - 1
    words = np.array([0, 1, top, top - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1], kind)
    x, y = (np.tile(part.ravel(), (1, 5)) for part in np.meshgrid(words, words))
    eye = np.eye(1, dtype=kind)
    for minus in (False, True):
        out = np.zeros(x.shape, kind)
        ring.matmul_blended(eye, ring.pack(x, bits), ring.pack(y, bits), minus, bits, x.shape, out)
        assert np.array_equal(out & mask_of(bits), (x - y if minus else x + x + y) & mask_of(bits))


@pytest.mark.parametrize("turned", [False, True])
def test_threads_and_arrays_of_any_kind_change_nothing(drawn: Draw, level: str, turned: bool) -> None:
    shape, mask, before, results = (400, 400), mask_of(40), ring.threads(), []
    a, out = drawn((9, 400)), drawn((9, 400), seed=1)
    pair = STREAMS[0], in_memory(STREAMS[1], 40, shape)
    try:
        for threads in (1, 3):
            ring.set_threads(threads)
            results.append(out.copy())
            ring.matmul_blended(a, *pair, True, 40, shape, results[-1], turned)
    finally:
        ring.set_threads(before)
    results.append(np.asfortranarray(out))
    ring.matmul_blended(np.asfortranarray(a), *pair, True, 40, shape, results[-1], turned)
    wide = np.repeat(out, 2, axis=1)
    ring.matmul_blended(a, *pair, True, 40, shape, wide[:, ::2], turned)
    assert np.array_equal(wide[:, 1::2], out)
    square = a.copy()
    ring.matmul_blended(square, *pair, True, 40, shape, square, turned)
    assert np.array_equal((square - a) & mask, (results[0] - out) & mask)
    for found in (*results[1:], wide[:, ::2]):
        assert np.array_equal(found & mask, results[0] & mask)


def test_without_vector_aes_the_words_are_the_same(drawn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        """The kernel on a processor that has none."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            refused = {"key_stream": lambda *_: False, "matmul_blended": lambda *_: None}
            return refused.get(name) or getattr(native.native(), name)

    for module in (keys, blended, packed):
        monkeypatch.setattr(module, "native", lambda: Kernel())
    check(drawn, 3, 40, (300, 777), STREAMS, True)


def test_bytes_of_another_matrix_are_refused(drawn: Draw) -> None:
    out = np.zeros((2, 7), np.uint64)
    with pytest.raises(ProtocolError, match="are no matrix of"):
        ring.matmul_blended(drawn((2, 5)), STREAMS[0], bytes(5 * 5 * 7 + 1), True, 40, (5, 7), out)
