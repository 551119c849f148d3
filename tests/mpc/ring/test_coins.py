"""Sums of random parts of rows: every kernel level adds up what a product with words 1, 0 and -1 does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.words import Words

Draw = Callable[..., Words]
WORDS = [np.uint8, np.uint16, np.uint32, np.uint64]


def expected(terms: Words, coins: Words, every: bool) -> Words:
    """By plain integers, which do not wrap before the end."""
    sign = 1 - 2 * (coins & 1).astype(object)
    counts = 1 if every else (coins >> 1 & 1).astype(object)
    size = 1 << 8 * terms.dtype.itemsize
    return (terms.astype(object) @ (sign * counts) % size).astype(terms.dtype)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("word", WORDS)
def test_random_words(drawn: Draw, level: str, word: type, every: bool) -> None:
    for rows, length, columns in ((1, 1, 1), (2, 37, 40), (3, 100, 7), (0, 5, 2), (2, 0, 3), (1, 9, 33)):
        terms, coins = drawn((rows, length), word), drawn((length, columns), np.uint8, 1)
        found = ring.coin_sums(terms, coins, every)
        assert found.dtype == word
        assert np.array_equal(found, expected(terms, coins, every))
        turned = ring.coin_sums(np.asfortranarray(terms), np.asfortranarray(coins), every)
        assert np.array_equal(turned, found)


@pytest.mark.parametrize("word", WORDS)
def test_extreme_words_and_coins(level: str, word: type) -> None:
    """The words at the ends of the ring, once with each coin; bits above the two do not count."""
    top = (1 << 8 * np.dtype(word).itemsize) - 1
    terms: Words = np.array([[0, 1, top, top - 1, top // 2, top // 2 + 1]], word)
    coins = np.tile(np.arange(256, dtype=np.uint8), (6, 1))
    for every in (False, True):
        found = ring.coin_sums(terms, coins, every)
        assert np.array_equal(found, expected(terms, coins, every))
        assert np.array_equal(found, ring.coin_sums(terms, coins & np.uint8(3), every))


def test_what_does_not_fit_is_refused(drawn: Draw) -> None:
    wrong: list[tuple[Any, Any]] = [
        (drawn((2, 5)), drawn((4, 3), np.uint8)),
        (drawn((2, 5)), drawn((5, 3), np.uint16)),
        (drawn((2, 5)).view(np.int64), drawn((5, 3), np.uint8)),
        (drawn(5), drawn((5, 3), np.uint8)),
    ]
    for terms, coins in wrong:
        with pytest.raises(ProtocolError, match="coins"):
            ring.coin_sums(terms, coins, True)
