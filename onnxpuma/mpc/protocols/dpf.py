"""Distributed point functions: a client's secret index as two short keys [BGI16].

Each of two holders expands a key to a vector over the table's rows. The two vectors add up to the index's
one-hot row mod 2^32, and one key alone is independent of the index. Exactly two parties hold each component
of a replicated table, so three independent key pairs look one id up in all three components: a few hundred
bytes, where a one-hot row would take four bytes for each row of the table.

The tree (seed_tree.py) stops early: a leaf seed has 128 bits, which are four outputs.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.protocols.seed_tree import (
    HALF,
    LEAF,
    LEFT,
    ONE,
    RIGHT,
    ROW_KEYS,
    SEED,
    child,
    descend,
    expanded,
)
from onnxpuma.mpc.ring.arrays import (
    contiguous,
    empty,
    filled,
    indices,
    integers,
    joined,
    ones,
    read,
    stacked,
    zeros,
)
from onnxpuma.mpc.ring.ids import expand_ids
from onnxpuma.mpc.ring.words import Words, from_integers, resized, word

ONE_HOT = Format(32, 0)  # of the rows that keys expand to; a table's entries are below 2^30 units, and so fit
BITS = ONE_HOT.bits
_OUTPUTS = 128 // BITS  # of one leaf
_CHUNK = 1 << 17  # outputs that are expanded at a time


@dataclass(frozen=True)
class Keys:
    """Keys of one holder for n ids over the same table."""

    holder: int  # 0 or 1
    seed: Words  # (n, 2): root seeds, in two halves
    corrections: Words  # (n, depth, 2): a seed for each level; its lowest two bits correct control bits
    leaves: Words  # (n, 4) mod 2^32

    @classmethod
    def read(cls, holder: int, seed: Any, corrections: Any, leaves: Any, rows: int) -> Keys:
        """The keys for a table of `rows` rows that lie in these buffers, without a copy."""
        roots = read(seed, HALF).reshape(-1, 2)
        levels = read(corrections, HALF).reshape(len(roots), depth_of(rows), 2)
        return cls(holder, roots, levels, read(leaves, BITS).reshape(len(roots), -1))

    @property
    def nbytes(self) -> int:
        return self.seed.nbytes + self.corrections.nbytes + self.leaves.nbytes


class SecretIds:
    """One party's keys for ids that the client knows, of the given shape, over a table of `rows` rows.

    own: holder 0's keys of the pair for component i. following: holder 1's of the pair for component i + 1.
    """

    __slots__ = ("_vectors", "following", "own", "rows", "shape")

    def __init__(self, shape: tuple[int, ...], rows: int, own: Keys, following: Keys) -> None:
        self.shape, self.rows, self.own, self.following = shape, rows, own, following
        self._vectors: tuple[Words, Words] | None = None

    def __repr__(self) -> str:
        return f"SecretIds(shape={self.shape}, rows={self.rows})"

    def expand(self) -> tuple[Words, Words]:
        """The vectors of the own and the following keys, (n, rows) each, kept until a look-up takes them."""
        if self._vectors is None:
            self._vectors = evaluate(self.own, self.rows), evaluate(self.following, self.rows)
        return self._vectors

    def take(self) -> tuple[Words, Words]:
        """The same vectors, and keep them no longer: they need a word for each id and row of the table."""
        vectors, self._vectors = self.expand(), None
        return vectors


def expand_all(values: Sequence[SecretIds]) -> None:
    """Expand the keys of all these ids, those of tables of one size in one pass: the vectors are kept as by
    `SecretIds.expand`. A level of the tree is a few calls, however many ids there are."""
    due = [value for value in values if value._vectors is None]
    for rows in dict.fromkeys(value.rows for value in due):
        alike = [value for value in due if value.rows == rows]
        own, following = _keys_of([v.own for v in alike]), _keys_of([v.following for v in alike])
        vectors = evaluate(own, rows), evaluate(following, rows)
        start = 0
        for value in alike:
            end = start + len(value.own.seed)
            value._vectors = vectors[0][start:end], vectors[1][start:end]
            start = end


def _keys_of(keys: Sequence[Keys]) -> Keys:
    """One holder's keys for tables of one size, one after the other."""
    parts = zip(*((k.seed, k.corrections, k.leaves) for k in keys), strict=True)
    return Keys(keys[0].holder, *(joined(part) for part in parts))


Dealt: TypeAlias = "Form | SecretIds"  # dealt by a client to one party


def share_ids(ids: np.ndarray, rows: int) -> tuple[SecretIds, SecretIds, SecretIds]:
    """The three parties' keys for ids in [-rows, rows), of which negative ones count from the end: three
    independent key pairs, one for each component.

    Cost: about 2 * 3 * (48 + 16 log2(rows / 4)) bytes an id, from the client to the servers.
    """
    ids, shape = integers(ids), np.shape(ids)
    ids = np.where(ids < 0, ids + rows, ids)
    pairs = [generate(ids, rows) for _ in range(3)]
    first, second, third = (SecretIds(shape, rows, pairs[i][0], pairs[(i + 1) % 3][1]) for i in range(3))
    return first, second, third


def joined_ids(values: Sequence[SecretIds], shape: tuple[int, ...]) -> SecretIds:
    """The ids of several values over tables of one size, one value after the other, in another shape."""
    own, following = _keys_of([v.own for v in values]), _keys_of([v.following for v in values])
    made = SecretIds(shape, values[0].rows, own, following)
    first, second = zip(*(value.take() for value in values), strict=True)
    made._vectors = joined(first), joined(second)
    return made


def look_up(party: Party, ids: SecretIds, table: Replicated) -> Sum3:
    """Rows of a replicated table, (rows, width), at secret ids: (*ids, width) mod 2^32, exact, no message.

    z_i = e_i T_i + e_{i+1} T_{i+1}, e the expanded keys; a protocol that sends z_i masks it first. Condition:
    the table's entries are below 2^30 units in magnitude. A streamed table is read once, block by block.
    """
    own, following = ids.take()
    if isinstance(table, Streamed):
        words = table.modulo(BITS).product(own, following, party.reading)
    else:
        if isinstance(table, Weights):
            first, second = table.narrowed(BITS)
        else:
            first, second = resized(table.first, BITS), resized(table.second, BITS)
        words = ring.matmul_pair(own, first, following, second)
    return Sum3(party.index, words.reshape(*ids.shape, -1), ONE_HOT.at(table.fraction))


def depth_of(rows: int) -> int:
    """Levels of the tree over a table of this many rows."""
    return max(0, (-(-rows // _OUTPUTS) - 1).bit_length())


def _leaf_words(seeds: np.ndarray) -> Words:
    """Four words mod 2^32 of each seed: (..., 4)."""
    return expanded(LEAF, seeds).view(ONE_HOT.word)


def generate(ids: np.ndarray, rows: int) -> tuple[Keys, Keys]:
    """The two holders' keys for ids, (n,), in [0, rows). The client, who knows the ids, calls it."""
    ids = integers(ids).reshape(-1)
    n, depth = len(ids), depth_of(rows)
    roots = read(secrets.token_bytes(32 * n), HALF).reshape(2, n, 2) & SEED
    seeds, bits = roots, stacked([zeros(n, HALF), ones(n, HALF)])
    corrections = zeros((n, depth, 2), HALF)
    leaf, place = ids // _OUTPUTS, ids % _OUTPUTS
    for level in range(depth):
        right = from_integers((leaf >> (depth - 1 - level)) & 1, HALF)
        corrections[:, level], seeds, bits = descend(seeds, bits, right)
    one_hot = resized(indices(_OUTPUTS)[None, :] == place[:, None], BITS)
    leaves = one_hot - _leaf_words(seeds[0]) + _leaf_words(seeds[1])
    leaves = np.where(bits[1][:, None] == 1, -leaves, leaves)
    return Keys(0, roots[0], corrections, leaves), Keys(1, roots[1], corrections, leaves)


def evaluate(keys: Keys, rows: int) -> Words:
    """This holder's additive share of the one-hot rows: (n, rows) mod 2^32."""
    out = empty((len(keys.seed), rows), BITS)
    seed, corrections, leaves = (contiguous(w) for w in (keys.seed, keys.corrections, keys.leaves))
    if expand_ids(ROW_KEYS, keys.holder, seed, corrections, leaves, out):
        return out
    together = max(1, _CHUNK // rows)  # ids at a time, so that a level stays in the cache
    for start in range(0, len(out), together):
        chunk = slice(start, start + together)
        out[chunk] = _evaluate(
            keys.holder, keys.seed[chunk], keys.corrections[chunk], keys.leaves[chunk], rows
        )
    return out


def _evaluate(holder: int, seeds: np.ndarray, corrections: np.ndarray, leaves: Words, rows: int) -> Words:
    n, depth = corrections.shape[:2]
    blocks = -(-rows // _OUTPUTS)
    seeds, bits = (seeds & SEED).reshape(n, 1, 2), filled((n, 1), holder, HALF)
    for level in range(depth):
        grown = empty((n, seeds.shape[1], 2, 2), HALF)
        grown_bits = empty((n, seeds.shape[1], 2), HALF)
        on = -bits
        for side, prg in enumerate((LEFT, RIGHT)):
            below, bit = child(prg, seeds)
            for half in range(2):
                fix = corrections[:, level, half][:, None] & on
                np.bitwise_and(below[..., half] ^ fix, SEED[half], out=grown[:, :, side, half])
            fix_bit = (corrections[:, level, 0] >> word(side, HALF))[:, None] & ONE & bits
            np.bitwise_xor(bit, fix_bit, out=grown_bits[:, :, side])
        needed = -(-blocks // (1 << (depth - 1 - level)))
        seeds = grown.reshape(n, -1, 2)[:, :needed]
        bits = grown_bits.reshape(n, -1)[:, :needed]
    out = _leaf_words(seeds)
    out += leaves[:, None, :] * resized(bits[..., None], BITS)
    if holder == 1:
        np.negative(out, out=out)
    return out.reshape(n, -1)[:, :rows]
