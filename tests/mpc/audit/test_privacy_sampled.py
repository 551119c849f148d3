"""Views too large to enumerate, sampled: two inputs that a party cannot tell apart give it similar views.

Independent of the audit's reasoning: plain statistics of every word of a view, and of sums of two words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.audit.views import Recording, random_source, record
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.compare import locate
from onnxpuma.mpc.protocols.convert import settle
from onnxpuma.mpc.protocols.maximum import row_maximum
from onnxpuma.mpc.protocols.power_of_four import to_window
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.ring.words import Words

LANES = 1 << 14
BITS = 8
LOOKED_AT = 6  # low bits of each word


def split_of(party: Party, a: Words, b: Words) -> Split:
    role = party.role(0)
    return Split(role, 0, a if role == PIVOT else b, Format(BITS, 0))


def normalised(party: Party, a: Words, b: Words) -> Protocol[Any]:
    yield from to_window(party, split_of(party, a, b), Thresholds(1, 3, BITS, Power.INVERSE, 12))


def highest(party: Party, a: Words, b: Words) -> Protocol[Any]:
    rows = split_of(party, np.stack([a, a + np.uint8(3)], 1).reshape(-1), np.stack([b, b], 1).reshape(-1))
    return (yield from settle(party, (yield from row_maximum(party, rows, np.full(len(a), 2)))))


def located(party: Party, a: Words, b: Words) -> Protocol[Any]:
    return (yield from locate(party, split_of(party, a, b), 16))


def view(recording: Recording, party: int) -> list[tuple[int, Words]]:
    parts = [*recording.derived(party), *recording.received(party)]
    return [(min(p.bits, LOOKED_AT), column) for p in parts for column in p.words.T]


def statistics(columns: list[tuple[int, Words]]) -> Iterator[np.ndarray]:
    """Histograms of every word, and of sums of words taken two at a time."""
    mates = np.random.default_rng(1).permutation(len(columns))
    for (bits, words), mate in zip(columns, mates, strict=True):
        other_bits, other = columns[mate]
        for mixed, width in ((words, bits), (words + other, min(bits, other_bits))):
            yield np.bincount((mixed & np.uint64((1 << width) - 1)).astype(np.int64), minlength=1 << width)


def excess(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sample chi-square, in standard deviations above its mean."""
    both = first + second
    seen = both > 0
    degrees = max(1, int(seen.sum()) - 1)
    chi = float((((first - second)[seen] ** 2) / both[seen]).sum())
    return (chi - degrees) / (2 * degrees) ** 0.5


def record_of(program: Any, a: int, b: int, seed: int) -> Recording:
    words = [np.full(LANES, value, np.uint8) for value in (a, b)]
    return record(program, words, LANES, random_source(LANES, seed))


@pytest.mark.parametrize("program", [normalised, highest, located])
@pytest.mark.parametrize(
    ("party", "first", "second"), [(0, (9, 1), (9, 250)), (1, (3, 7), (200, 7)), (2, (0, 130), (77, 130))]
)
def test_two_inputs_with_the_same_shares_look_alike(
    program: Any, party: int, first: tuple[int, int], second: tuple[int, int]
) -> None:
    views = [view(record_of(program, *inputs, seed), party) for seed, inputs in enumerate((first, second))]
    assert max(excess(x, y) for x, y in zip(*map(statistics, views), strict=True)) < 10


def test_a_bare_word_does_not_look_alike() -> None:
    def bare(party: Party, a: Words, b: Words) -> Protocol[Any]:
        if party.index == 0:
            party.send(1, a + (party.draw(1, a.shape, 8) & np.uint8(1)), 8)
        elif party.index == 1:
            party.expect(0, a.shape, 8)
        if party.index == 1:
            party.draw(1, a.shape, 8)
        yield

    views = [view(record_of(bare, a, 0, a), 1) for a in (4, 5)]
    assert max(excess(x, y) for x, y in zip(*map(statistics, views), strict=True)) > 100
