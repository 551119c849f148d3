"""Ring words and fixed point: types, reduction, two's complement, rounding, and shares of words."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.ring.words import (
    decode,
    encode,
    from_integers,
    reduced,
    resized,
    signed,
    word_mask,
    word_type,
)
from onnxpuma.mpc.sharing import held_by, opened, share

WIDTHS = (1, 2, 7, 8, 9, 16, 17, 28, 32, 33, 46, 63, 64)


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_narrowest_type_holds_the_word(bits: int) -> None:
    kind = word_type(bits)
    assert kind.kind == "u"
    assert 8 * kind.itemsize >= bits
    assert kind.itemsize == 1 or 4 * kind.itemsize < bits
    assert int(word_mask(bits)) == 2**bits - 1


@pytest.mark.parametrize("bits", WIDTHS)
def test_integers_there_and_back(bits: int) -> None:
    half = 1 << (bits - 1)
    values = np.array(sorted({-half, -half // 2, -1, 0, min(1, half - 1), half // 2 - 1, half - 1}), object)
    values = np.array([v for v in values if -half <= v < half], np.int64)
    words = from_integers(values, bits)
    assert words.dtype == word_type(bits)
    assert np.array_equal(signed(words, bits), values)
    garbage = words.astype(np.uint64) + (np.uint64(0xABCD) << np.uint64(min(bits, 63)))
    assert np.array_equal(reduced(garbage, bits), words & word_mask(bits)) or bits == 64
    assert np.array_equal(signed(resized(garbage, bits), bits), values) or bits == 64


def test_reduction_of_a_full_word_copies_nothing() -> None:
    words = np.arange(4, dtype=np.uint32)
    assert reduced(words, 32) is words


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3)])
def test_fixed_point(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(0, 100, shape)
    words = encode(x, 18)
    assert words.shape == shape
    assert np.abs(decode(words, 18) - x).max(initial=0.0) <= 2.0**-19
    assert decode(words, 18).dtype == np.float64


def test_fixed_point_rounds_to_the_nearest() -> None:
    x = np.array([0.0, 0.5, -0.5, 0.49, -0.49, 1.5, -1.5, 2.5]) * 2.0**-18
    assert list(signed(encode(x, 18), 64)) == [0, 0, 0, 0, 0, 2, -2, 2]
    assert list(decode(encode([1.0, -1.0, -128.0, 127.5], 1, 9), 1, 9)) == [1.0, -1.0, -128.0, 127.5]


@pytest.mark.parametrize("bits", WIDTHS)
def test_shares_add_up_and_two_of_them_look_random(bits: int) -> None:
    words = from_integers(np.full(4096, 3 if bits > 2 else 1), bits)
    components = share(words, bits)
    assert np.array_equal(opened(components, bits), words)
    for i in range(3):
        ones = (components[i] & components[i].dtype.type(1)).mean()
        assert abs(ones - 0.5) < 0.05
        held = held_by(i, components, Format(bits, 5))
        assert (held.bits, held.fraction, held.shape) == (bits, 5, (4096,))
        assert np.array_equal(held.first, components[i])
        assert np.array_equal(held.second, components[(i + 1) % 3])
    again = share(words, bits)
    assert bits < 8 or not np.array_equal(components[0], again[0])
