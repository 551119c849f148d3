"""Random combinations that show three servers that a client's keys read the same rows of every component.

A client sends three pairs of keys for its ids (dpf.py). Pair j expands to v_j = e_j + e'_j, e_j at P_j and
e'_j at P_{j-1}, and a look-up yields the sum of v_j T_j over the components of the table. This is a row of
the table, or a mixture of rows, only if v_0 = v_1 = v_2. Let C be a random linear map that no party knew when
the client generated the keys. P_{i-1} sends C(e_{i-1} - e'_i) to P_i, P_{i+1} sends C(e'_{i-1}), and P_i
compares their sum with its own C(e_i): they are equal if v_{i-1} = v_i (docs/protocols.md, "Consistent
inputs").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.prf import Stream
from onnxpuma.mpc.protocols.dpf import BITS, SecretIds
from onnxpuma.mpc.ring.arrays import unpacked, zeros
from onnxpuma.mpc.ring.words import Words, resized

COMBINATIONS = 48
"""Each finds a difference with probability 1/2: a coefficient of either parity is equally likely."""

_TOGETHER = 1 << 10  # ids at a time: each takes 9 KB of coefficients


@dataclass(frozen=True)
class Sketch:
    """P_i's combinations: COMBINATIONS words mod 2^32 each."""

    kept: Words = field(repr=False)
    to_previous: Words = field(repr=False)  # for P_{i-1}
    to_following: Words = field(repr=False)  # for P_{i+1}

    def agrees(self, from_previous: Words, from_following: Words) -> bool:
        """Whether the pairs i - 1 and i read the same rows, as far as these combinations show."""
        return np.array_equal(from_previous + from_following, self.kept)


def sketch(ids: Sequence[SecretIds], coins: Stream) -> Sketch:
    """One party's sketch of its keys for all ids of a request; `coins` are the same at all three parties.

    The sketches miss a difference between two pairs with probability 2^-47. The words that a party receives
    are uniform, whatever the ids are, because it holds neither key of pair i - 1. Cost: each party sends each
    neighbour 4 * COMBINATIONS bytes; n * rows * COMBINATIONS products a key.
    """
    own, following = combined([item.expand() for item in ids], coins)
    return Sketch(own, following, own - following)


def combined(vectors: Sequence[tuple[Words, ...]], coins: Stream) -> tuple[Words, ...]:
    """The same random map of several families of arrays, where family k is item k of each tuple: (n, rows)
    words become COMBINATIONS words mod 2^32. The map combines the rows of each id first, and then the ids."""
    totals = [zeros(COMBINATIONS, BITS) for _ in vectors[0]]
    for family in vectors:
        ids, rows = family[0].shape
        over_rows = _bits(coins, rows)
        mixed = [ring.matmul(words, over_rows) for words in family]
        for start in range(0, ids, _TOGETHER):
            chunks = [words[start : start + _TOGETHER].reshape(1, -1) for words in mixed]
            over_ids = _bits(coins, chunks[0].size)
            for total, chunk in zip(totals, chunks, strict=True):
                total += ring.matmul(chunk, over_ids).reshape(-1)
    return tuple(totals)


def _bits(coins: Stream, count: int) -> Words:
    """(count, COMBINATIONS) random zeros and ones, as words mod 2^32."""
    packed = coins.draw((count, COMBINATIONS // 8), 8)
    return resized(unpacked(packed, axis=1), BITS)
