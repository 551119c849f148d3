"""Streamed weights: every product and look-up gives the words that the same weights in memory give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3, reading
from onnxpuma.mpc.forms.source import KeySource
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.dpf import look_up, share_ids
from onnxpuma.mpc.protocols.linear import doubled_matmul, matmul
from onnxpuma.mpc.ring.words import reduced
from onnxpuma.mpc.sharing import component_stream
from onnxpuma.mpc.simulate import shared_words, simulate
from tests.mpc.forms.packed import Counted, matrix, packed_matrix, weights_of

BITS = [32, 40, 48, 64]
SHAPES = [(1, 1), (5, 3), (16, 8), (67, 33), (128, 10)]


@pytest.fixture(autouse=True, params=[40, 1 << 12])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that small matrices have many."""
    monkeypatch.setattr(reading, "BLOCK", request.param)


def same(program: Callable[..., Any], x: Any, weights: tuple[Any, Any], bits: int) -> None:
    """Each party's words are the same with both kinds of weights."""

    def one(party: Party, *values: Any) -> Protocol[Any]:
        yield from ()
        return program(party, *values)

    resident, streamed = (simulate(one, x, kind) for kind in weights)
    for a, b in zip(resident.results, streamed.results, strict=True):
        assert isinstance(a, Sum3) == isinstance(b, Sum3)
        assert a.format == b.format
        pairs = [(a.words, b.words)] if isinstance(a, Sum3) else zip(a.components, b.components, strict=True)
        for left, right in pairs:
            assert left.shape == right.shape
            assert left.dtype == right.dtype
            assert np.array_equal(reduced(left, a.bits), reduced(right, b.bits))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_products(bits: int, shape: tuple[int, int]) -> None:
    weights = weights_of(matrix(shape, bits), Format(bits, 16))
    for rows in ((), (1,), (9,)):
        x = shared_words(matrix((*rows, shape[0]), bits, 1), bits, 14)  # type: ignore[arg-type]
        same(matmul, x, weights, bits)
        y = shared_words(matrix((*rows, shape[1]), bits, 2), bits, 14)  # type: ignore[arg-type]
        same(lambda party, y, w: matmul(party, y, w.transpose((1, 0))), y, weights, bits)
    x = shared_words(matrix((2, 3, shape[0]), bits, 1), bits, 14)  # type: ignore[arg-type]
    same(matmul, x, weights, bits)


@pytest.mark.filterwarnings("ignore:the compiled kernel")
@pytest.mark.parametrize("level", ring.native_levels())
@pytest.mark.parametrize("bits", BITS)
def test_doubled_products(bits: int, level: str) -> None:
    """One product of each block, in a ring of the weights' width or a smaller one."""
    before = ring.native_level()
    try:
        ring.set_native_level(level)
        for shape in SHAPES[1:4]:
            weights = weights_of(matrix(shape, bits), Format(bits, 16))
            for rows in ((), (2,), (2, 3)):
                x = shared_words(matrix((*rows, shape[0]), bits, 1), bits, 14)  # type: ignore[arg-type]
                same(doubled_matmul, x, weights, bits)
                y = shared_words(matrix((*rows, shape[1]), 32, 2), 32, 14)  # type: ignore[arg-type]
                same(lambda party, y, w: doubled_matmul(party, y, w.transpose().modulo(32)), y, weights, 32)
    finally:
        ring.set_native_level(before)


def test_servers_that_stream_beside_servers_that_hold_the_words() -> None:
    """A doubled product is right whichever parties stream."""
    words, x = matrix((16, 8), 64), matrix((9, 16), 64, 1)
    resident, streamed = weights_of(words, Format(64, 16))

    def program(party: Party, a: Replicated, w: Replicated) -> Protocol[Sum3]:
        yield from ()
        return doubled_matmul(party, a, w)

    for streams in range(8):
        mixed = [(streamed if streams >> i & 1 else resident)[i] for i in range(3)]
        found = simulate(program, shared_words(x, 64), mixed).words()
        assert np.array_equal(found, 2 * (x @ words))


@pytest.mark.parametrize(("bits", "fewer"), [(64, 48), (64, 32), (48, 40), (40, 32)])
def test_products_in_a_smaller_ring(bits: int, fewer: int) -> None:
    weights = weights_of(matrix((67, 33), bits), Format(bits, 16))
    x = shared_words(matrix((4, 67), fewer, 1), fewer, 14)
    same(lambda party, x, w: matmul(party, x, w.modulo(fewer)), x, weights, fewer)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("ids", [[[3, 0, 66], [66, 5, -1]], [12], 7])
def test_look_ups(bits: int, ids: Any) -> None:
    weights = weights_of(matrix((67, 33), bits), Format(bits, 16))
    same(look_up, share_ids(np.array(ids), 67), weights, 32)


@pytest.mark.parametrize("bits", BITS)
def test_everything_else_reads_the_matrix(bits: int) -> None:
    weights = weights_of(matrix((67, 33), bits), Format(bits, 16))
    x = shared_words(matrix((67, 33), bits, 1), bits, 16)
    same(lambda party, x, w: x + w, x, weights, bits)
    same(lambda party, x, w: w.reshape(33, 67) - x.reshape(33, 67), x, weights, bits)
    same(lambda party, x, w: x.transpose() + w.transpose(1, 0), x, weights, bits)
    same(lambda party, x, w: w.lowered(3), x, weights, bits)
    same(lambda party, x, w: w.map(np.negative).owned(), x, weights, bits)
    same(lambda party, x, w: matmul(party, w.transpose(), x), x, weights, bits)
    same(lambda party, x, w: matmul(party, w.transpose(), w), x, weights, bits)
    same(lambda party, x, w: doubled_matmul(party, w.transpose(), x), x, weights, bits)
    same(lambda party, x, w: doubled_matmul(party, w.transpose(), w), x, weights, bits)
    same(lambda party, x, w: w.rmatmul(np.arange(2 * 4 * 67).reshape(2, 4, 67), 3), x, weights, bits)
    same(lambda party, x, w: w.transpose().rmatmul(np.arange(33), 3), x, weights, bits)
    same(lambda party, x, w: w.transpose().transpose((0, 1)).with_fraction(3), x, weights, bits)
    same(lambda party, x, w: w.resident() if isinstance(w, Streamed) else w, x, weights, bits)
    same(lambda party, x, w: Replicated(w.party, w.total, w.second, w.format), x, weights, bits)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("index", [[0, 66, -1, 3, 3], [[1, 2], [2, 40]], 5, []])
def test_rows_by_public_indices(bits: int, index: Any) -> None:
    weights = weights_of(matrix((67, 33), bits), Format(bits, 16))
    x = shared_words(matrix((1, 1), bits), bits)
    places = np.array(index, np.intp)
    same(lambda party, x, w: w.take(places, 0), x, weights, bits)
    if places.ndim == 1 and len(places):
        same(lambda party, x, w: w.take(places % 33, 1), x, weights, bits)
        same(lambda party, x, w: w.transpose().take(places % 33, 0), x, weights, bits)


def test_rows_are_read_without_the_others(small_blocks: None) -> None:
    words = matrix((512, 96), 40)
    _, streamed = weights_of(words, Format(40, 16))
    source = streamed[1].stored.sources[1]
    assert isinstance(source, Counted)
    streamed[1].take(np.array([400]), 0)
    assert source.bytes == len(source.data) + 480  # once in whole, for its check
    streamed[1].take(np.array([3, 400, 3]), 0)
    assert source.bytes == len(source.data) + 3 * 480


def test_views_read_nothing() -> None:
    _, streamed = weights_of(matrix((67, 33), 64), Format(64, 16))
    view = streamed[1].transpose().with_fraction(3).modulo(40).reshape(33, 67)
    assert (view.shape, view.size, tuple(view.format)) == ((33, 67), 67 * 33, (40, 3))
    assert not view.pending
    assert repr(view) == "Streamed(shape=(33, 67), bits=40, fraction=3)"
    assert streamed[1].stored.sources[1].bytes == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("bits", [32, 64])
def test_a_key_yields_the_stream_of_its_component(bits: int) -> None:
    """From any place, and the same as a dealer draws."""
    whole = component_stream(bytes(range(16)), 5).draw((3000,), bits).tobytes()
    source = KeySource(bytes(range(16)), 5)
    for start, size in [(0, 160), (160, 1000), (1168, 7), (16, 11984), (1600, 32), (1632, 64)]:
        found = bytearray(size)
        source.read(start, memoryview(found))
        assert bytes(found) == whole[start : start + size]


def test_components_are_those_of_the_sources() -> None:
    words = matrix((20, 7), 40)
    sources, components = packed_matrix(words, Format(40, 16))
    total = reduced(sum(components), 40)  # type: ignore[arg-type]
    assert np.array_equal(total, words)
    assert len(sources) == 3
