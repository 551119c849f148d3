"""Words of messages and of key streams go to arrays that stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.prf import AesStream
from onnxpuma.mpc.ring.native import native_level, native_levels, set_native_level
from onnxpuma.mpc.ring.places import Places
from onnxpuma.mpc.ring.words import word_type

RANDOM = np.random.default_rng(6)


@pytest.fixture(params=native_levels(), autouse=True)
def level(request: pytest.FixtureRequest) -> Iterator[None]:
    before = native_level()
    set_native_level(request.param)
    yield
    set_native_level(before)


def test_each_buffer_goes_to_its_array() -> None:
    sent = [
        (RANDOM.integers(0, 1 << bits, (3, 5)).astype(word_type(bits)), bits) for bits in (1, 13, 32, 46, 62)
    ]
    arrays = [np.zeros((3, 5), words.dtype) for words, _ in sent]
    wanted = [(array, bits) for array, (_, bits) in zip(arrays, sent, strict=True)]
    wanted[2] = None, 32  # nobody reads it
    Places(wanted).unpack([memoryview(ring.pack(words, bits)) for words, bits in sent])
    for number, (array, (words, _)) in enumerate(zip(arrays, sent, strict=True)):
        np.testing.assert_array_equal(array, np.zeros_like(words) if number == 2 else words)


def test_another_number_of_buffers_or_bytes_is_an_error() -> None:
    places = Places([(np.zeros(3, "u8"), 40), (np.zeros(2, "u1"), 8)])
    with pytest.raises(ProtocolError, match="1 buffers for 2 arrays"):
        places.unpack([bytes(15)])
    with pytest.raises(ProtocolError, match="bytes"):
        places.unpack([bytes(14), bytes(2)])


@pytest.mark.parametrize("sizes", [[5, 8, 1], [4096] * 40, [4097, 3], [0, 7], [65536], [8, 4095, 100_000, 2]])
def test_a_stream_fills_arrays_as_draws_would(sizes: list[int]) -> None:
    one, other = AesStream(bytes(16)), AesStream(bytes(16))
    for _ in range(9):
        arrays = [np.zeros(size, np.uint8) for size in sizes]
        one.draw_all(Places([(array, 8) for array in arrays]))
        for array in arrays:
            np.testing.assert_array_equal(array, other.draw(array.shape, 8))
    np.testing.assert_array_equal(one.draw((9,), 64), other.draw((9,), 64))


def test_a_stream_that_is_too_short_is_an_error() -> None:
    places = Places([(np.zeros(3, "u8"), 64), (np.zeros(2, "u1"), 8)])
    with pytest.raises(ValueError, match=r"fit|assign"):
        places.fill(np.zeros(24, np.uint8), 0)
