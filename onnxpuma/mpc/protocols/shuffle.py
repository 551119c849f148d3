"""Rows in a secret order, each one in an order of its own (docs/protocols.md, "Order").

Each pair of parties moves the elements by a permutation from its common key, one pair after the other. Every
party knows two of the three permutations, so the order of the result is uniform to each of them [LWZ11].
"""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Pair, Replicated
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import WIDEST, Words


def shuffled(party: Party, x: Replicated) -> Protocol[Replicated]:
    """Rows (rows, n) in an order that no party knows, in x's format; exact.

    The pivot s holds A and its twin v holds the rest; s and v go first, then s and u, then u and v. Masks:
    F_s on v's half for u, F_{s+1} on the pivot's half for v, those of `replicate_pair`. The result is still
    on its way when this returns. Rounds: 3; bits: `shuffled_cost`. An order is that of words of 64 bits: two
    of n are equal with a probability of n^2 / 2^65.
    """
    s, shape, bits = party.next_pivot(), x.shape, x.bits
    role = party.role(s)
    half: Words = nothing(shape, bits)
    # 1. s and v, by K_s
    if role == U:
        late = party.expect(s + 2, shape, bits)
    else:
        half = moved(party, s, x.total if role == PIVOT else x.first)
        mask = party.draw(s, shape, bits)
        if role == PIVOT:
            half = half - mask
        else:
            party.send(s + 1, half + mask, bits)
    yield
    # 2. s and u, by K_{s+1}
    if role == U:
        half = moved(party, s + 1, late.take()) - party.draw(s + 1, shape, bits)
    elif role == PIVOT:
        half = moved(party, s + 1, half)
        party.send(s + 2, half + party.draw(s + 1, shape, bits), bits)
    else:
        late = party.expect(s, shape, bits)
    yield
    # 3. u and v, by K_{s+2}
    if role == PIVOT:
        half = nothing(shape, bits)
    else:
        half = moved(party, s + 2, half if role == U else late.take())
    return replicate_pair(party, Pair(role, s, half, x.format))


def moved(party: Party, key: int, words: Words) -> Words:
    """Rows (rows, n) in the order that the holders of a key draw for each."""
    order = party.draw(key, words.shape, WIDEST).argsort(axis=-1, kind="stable")
    return np.take_along_axis(words, order, axis=-1)


def shuffled_cost(rows: int, length: int, bits: int) -> Cost:
    n = rows * length
    return Cost(2, 2 * packed(n, bits)) + replicate_pair_cost(n, bits)
