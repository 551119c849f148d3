"""Formats: what a word stands for, how far it reaches, and how many bytes it takes."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.format import RESTING, WHOLE, Format

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(
    "format", [RESTING, WHOLE, Format(48, 18), Format(32, 12), Format(7, 3), Format(1, 0)]
)
def test_numbers_come_back_as_they_were(format: Format) -> None:
    most = (1 << (format.bits - 1)) - 1
    values = RNG.integers(-most, most + 1, 200, dtype=np.int64) >> max(0, format.bits - 53)
    numbers = values * format.unit
    words = format.encode(numbers)
    assert words.dtype == format.word
    assert np.array_equal(format.decode(words), numbers)


def test_the_same_value_in_other_formats() -> None:
    assert RESTING.at(24) == Format(64, 24)
    assert RESTING.finer(RESTING.fraction) == Format(64, 36)
    assert RESTING.modulo(32) == Format(32, 18)
    assert RESTING.finer(18).lowered(18) == Format(46, 18)
    assert Format(46, 18).raised(18) == RESTING.finer(18)


@pytest.mark.parametrize(
    ("format", "largest"), [(RESTING, 44), (RESTING.finer(18), 26), (Format(48, 36), 10)]
)
def test_how_far_a_truncation_is_right(format: Format, largest: int) -> None:
    assert format.largest == 2.0**largest


@pytest.mark.parametrize(
    ("bits", "count", "length"), [(64, 3, 24), (48, 5, 30), (54, 3, 21), (1, 9, 2), (5, 0, 0)]
)
def test_packed_words_take_whole_bytes(bits: int, count: int, length: int) -> None:
    assert Format(bits, 0).bytes(count) == length


def test_a_party_holds_two_components() -> None:
    assert [Format(bits, 0).held for bits in (64, 48, 32, 16, 8)] == [16, 16, 8, 4, 2]
