"""Random combinations of a client's keys reveal a difference between pairs, and nothing about the ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from onnxpuma.mpc.prf import AesStream, fresh_key
from onnxpuma.mpc.protocols import sketch as sketch_module
from onnxpuma.mpc.protocols.dpf import SecretIds, generate, share_ids
from onnxpuma.mpc.protocols.sketch import COMBINATIONS, Sketch, combined, sketch
from onnxpuma.mpc.ring.words import Words


def sketches(parties: Sequence[Sequence[SecretIds]], coins: bytes | None = None) -> list[Sketch]:
    key = fresh_key() if coins is None else coins
    return [sketch(ids, AesStream(key)) for ids in parties]


def agreeing(made: Sequence[Sketch]) -> list[bool]:
    return [made[i].agrees(made[(i - 1) % 3].to_following, made[(i + 1) % 3].to_previous) for i in range(3)]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (5,)])
@pytest.mark.parametrize("rows", [1, 4, 37])
def test_honest_keys_agree(rows: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch_module, "_TOGETHER", 2)
    rng = np.random.default_rng(0)
    families = [share_ids(rng.integers(0, rows, shape), rows), share_ids(rng.integers(0, 9, (4,)), 9)]
    for count in (1, 2):
        made = sketches([[family[i] for family in families[:count]] for i in range(3)])
        assert agreeing(made) == [True] * 3
        assert made[0].kept.shape == (COMBINATIONS,)


@pytest.mark.parametrize("pair", [0, 1, 2])
@pytest.mark.parametrize("family", [0, 1])
def test_one_pair_that_reads_otherwise_is_seen_by_two(family: int, pair: int) -> None:
    """The last id of either family of keys differs at only one component."""
    families = []
    for number in range(2):
        ids = np.arange(5)
        honest = list(share_ids(ids, 11))
        if number == family:
            ids[-1] = 7
            own, other = generate(ids, 11)
            for party, place in ((pair, "own"), ((pair - 1) % 3, "following")):
                setattr(honest[party], place, own if place == "own" else other)
        families.append(honest)
    made = sketches([[held[i] for held in families] for i in range(3)])
    assert agreeing(made) == [i not in (pair, (pair + 1) % 3) for i in range(3)]


def test_the_expanded_keys_are_kept_for_one_look_up() -> None:
    ids = share_ids(np.array([3]), 20)[0]
    first = ids.expand()
    assert ids.expand() is first
    assert ids.take() is first
    again = ids.take()
    assert again is not first
    assert np.array_equal(again[0], first[0])


class Same:
    """Uses one combination's coefficients, (rows,) bits, in all of them; then the identity over one id."""

    def __init__(self, coefficients: Sequence[int]) -> None:
        self.parts = [
            np.packbits(np.repeat(np.array(coefficients, np.uint8)[:, None], COMBINATIONS, 1), axis=1),
            np.packbits(np.eye(COMBINATIONS, dtype=np.uint8), axis=1),
        ]

    def draw(self, shape: tuple[int, ...], bits: int) -> Words:
        part = self.parts.pop(0)
        assert part.shape == shape
        return part


@pytest.mark.parametrize("shift", [0, 1, 31])
def test_each_combination_finds_any_difference_half_of_the_time(shift: int) -> None:
    """All coefficients over three rows, all small differences: at worst 1/2, even in the highest bit."""
    coefficients = list(product((0, 1), repeat=3))
    for difference in product(range(4), repeat=3):
        words = (np.array([difference], np.uint32) << np.uint32(shift)).astype(np.uint32)
        if not words.any():
            continue
        missed = sum(combined([(words,)], Same(row))[0][0] == 0 for row in coefficients)
        assert missed <= len(coefficients) / 2


def test_a_difference_in_the_highest_bit_is_not_missed() -> None:
    """With 48 combinations, 2000 trials never miss; with 8, they would miss seven."""
    words = np.zeros((3, 5), np.uint32)
    words[1, 2] = 1 << 31
    assert all(combined([(words,)], AesStream(fresh_key()))[0].any() for _ in range(2000))


def test_what_a_party_is_told_does_not_depend_on_the_ids() -> None:
    """Every share of a vector over two rows mod 4, every map of two combinations: each party's view, its own
    two vectors and the two messages, has one distribution whatever was shared.

    The shares of one pair add up to the vector, and each alone is uniform; that is what its keys stand for.
    """
    rows, bits = 2, 2
    size = 1 << bits
    vectors = np.array(list(product(range(size), repeat=rows)), np.uint32)
    shares = np.array(list(product(range(len(vectors)), repeat=3)))  # e_0, e_1, e_2
    held = [vectors[shares[:, j]] for j in range(3)]
    wanted = [np.array(v, np.uint32) for v in ([0, 1], [1, 0], [0, 0], [1, 1], [2, 3])]
    for map_ in product((0, 1), repeat=rows * 2):
        matrix = np.array(map_, np.uint32).reshape(rows, 2)
        for party in range(3):
            before, after = (party - 1) % 3, (party + 1) % 3
            seen = []
            for vector in wanted:
                other = [(vector - words) % size for words in held]  # e'_j, at party j - 1
                view = np.concatenate(
                    [
                        held[party],
                        other[after],
                        (held[before] - other[party]) @ matrix % size,
                        other[before] @ matrix % size,
                    ],
                    axis=1,
                )
                code = view.astype(np.int64) @ (size ** np.arange(view.shape[1]))
                seen.append(np.bincount(code, minlength=size ** view.shape[1]))
            assert all(np.array_equal(counts, seen[0]) for counts in seen)


def test_the_view_that_is_enumerated_is_the_one_that_is_sent() -> None:
    """The senders and messages of the test above, with real keys."""
    ids = share_ids(np.array([2]), 6)
    coins = fresh_key()
    made = sketches([[held] for held in ids], coins)

    def image(words: Words) -> Words:
        return combined([(words,)], AesStream(coins))[0]

    for party in range(3):
        before = ids[(party - 1) % 3]
        other = ids[(party - 2) % 3]  # holds e'_{party - 1}
        from_before, from_after = made[(party - 1) % 3].to_following, made[(party + 1) % 3].to_previous
        assert np.array_equal(from_before, image(before.expand()[0] - before.expand()[1]))
        assert np.array_equal(from_after, image(other.expand()[1]))
        assert np.array_equal(made[party].kept, image(ids[party].expand()[0]))
