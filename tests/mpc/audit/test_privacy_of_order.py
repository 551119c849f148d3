"""What all parties see of a shuffled row is no secret: enumerated over the orders that a party lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.audit.enumeration import unmasked
from onnxpuma.mpc.audit.views import Columns, Input, Source, everything, unbroken
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Replicated, stacked
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols import order, shuffle
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.order import Stage, leading, revealed
from onnxpuma.mpc.ring.words import Words
from onnxpuma.mpc.simulate import shared_words, simulate

ORDERS = np.array(list(permutations(range(4))))
# Rows of the same length with nothing else in common: all orders of four numbers, and equal ones.
ROWS = np.array([*(ORDERS + 3), [9, 9, 9, 9], [0, 15, 15, 1], [2, 2, 1, 1]])
WORD = 12  # bits, with a place of two bits behind a number
Seen = list[Counter[bytes]]


def all_see(missing: int, places: np.ndarray, monkeypatch: pytest.MonkeyPatch, also: int = -1) -> Seen:
    """For each row, how often all parties see each outcome, over all permutations under one key.

    The two others, and the key `also`, have one permutation each.
    """
    fixed = np.random.default_rng(missing).permutation(4)

    def moved(party: Party, key: int, words: Words) -> Words:
        rows = len(words)
        free = key % 3 == missing and key % 3 != also
        taken = np.tile(ORDERS, (rows // len(ORDERS), 1)) if free else np.tile(fixed, (rows, 1))
        return np.take_along_axis(words, taken, axis=1)

    seen: list[np.ndarray] = []
    compared = order._below_zero

    def watched(party: Party, x: Replicated) -> Protocol[Any]:
        found = yield from compared(party, x)
        if party.index == missing:
            seen.append(found)
        return found

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        held = yield from settle(party, (yield from shuffle.shuffled(party, x)))
        return (yield from leading(party, held, 2, (Stage(2, 1, 3),)))

    monkeypatch.setattr(shuffle, "moved", moved)
    monkeypatch.setattr(order, "_below_zero", watched)
    words = (np.repeat(ROWS, len(ORDERS), axis=0) * 4 + places).astype(np.uint32)
    simulate(program, shared_words(words, WORD))
    every = np.concatenate(seen, axis=1)
    return [Counter(row.tobytes() for row in part) for part in np.split(every, len(ROWS))]


@pytest.mark.parametrize("missing", range(3))
def test_what_all_see_has_one_distribution(missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = all_see(missing, np.arange(4), monkeypatch)
    assert len(found[0]) > 1
    assert all(counts == found[0] for counts in found)


def test_equal_numbers_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the places behind them."""
    found = all_see(0, np.zeros(4, int), monkeypatch)
    assert any(counts != found[0] for counts in found)


def test_a_permutation_less_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = all_see(1, np.arange(4), monkeypatch, also=1)
    assert any(counts != found[0] for counts in found)


# ---- the messages of a shuffle, and of bits that all see ----------------------------------------------

THREE = [Input(20, frozenset({j, (j + 2) % 3})) for j in range(3)] * 3


def row_of_three(party: Party, *w: Words) -> Protocol[Any]:
    own, next_ = party.index, (party.index + 1) % 3
    parts = [Replicated(own, w[3 * i + own], w[3 * i + next_], Format(20, 0)) for i in range(3)]
    return (yield from settle(party, (yield from shuffle.shuffled(party, stacked(parts, axis=1)))))


def test_every_word_of_a_shuffle_is_masked() -> None:
    assert unmasked(row_of_three, THREE) == []


@pytest.mark.parametrize(("key", "masks"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_every_mask_of_a_shuffle_is_needed(key: int, masks: int) -> None:
    """The first words that are drawn from a key are an order, the others masks; the last key has none."""

    def without(source: Source) -> Source:
        def draw(drawn: int, place: int, count: int, bits: int) -> Columns:
            return source(drawn, place, count, bits) * np.uint64((drawn, place) != (key, masks))

        return draw

    assert unmasked(row_of_three, THREE, broken=without)


def bit_of(party: Party, bit: Words, mine: Words) -> Protocol[Any]:
    """A bit that all know, of which u holds `mine` and v the rest."""
    role = party.role(0)
    planes = [np.packbits(words & np.uint8(1), bitorder="little") for words in (mine, mine ^ bit)]
    plane = planes[0] * 0 if role == PIVOT else planes[role - 1]
    return (yield from revealed(party, Bit(role, 0, plane, (len(bit),))))


def pivot_sees_only_the_bit(broken: Callable[[Source], Source]) -> bool:
    """Whether what the pivot receives does not depend on the twins' shares."""
    inputs = [Input(1, frozenset({0, 1, 2})), Input(1, frozenset({1, 2}))]
    recording = everything(bit_of, inputs, broken)
    received = np.concatenate([m.words for m in recording.received(0)], axis=1)
    by_input = np.split(received, 4)  # (bit, share): 00, 01, 10, 11
    views = [Counter(row.tobytes() for row in part) for part in by_input]
    return views[0] == views[1] and views[2] == views[3]


def test_the_pivot_sees_a_bit_and_no_share_of_it() -> None:
    assert pivot_sees_only_the_bit(unbroken)


def test_a_share_without_its_mask_shows() -> None:
    def without(source: Source) -> Source:
        return lambda *place: source(*place) * np.uint64(0)

    assert not pivot_sees_only_the_bit(without)
