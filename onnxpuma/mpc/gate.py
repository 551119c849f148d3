"""A bit times a value, both known to the same pivot and twins (protocols.md, section 7).

The pivot draws rho, which both twins hold XOR-shared from PRF keys; the twins open d = q xor rho, and
q x = d A + (1-2d) rho A + B (d + (1-2d) rho) is local in what the pivot dealt.
"""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.convert import deal, deal_cost
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, U, Party, Protocol, nothing, taken
from onnxpuma.mpc.shares import Bit, Pair, Split, unpacked
from onnxpuma.mpc.words import resized, word_type


def gate(party: Party, q: Bit, x: Split) -> Protocol[Pair]:
    """q * x as Pair(p), for the XOR-shared bit q and x split by the same pivot, in x's ring; exact.

    Masks: rho by one bit each of F_{p+1} and F_p, the dealt words by F_{p+1}.
    Rounds: 1; bits: 2k + 2 where the twins hold A in halves (any Replicated value), else 3k + 2.
    """
    p, role, n, bits = x.pivot, party.role(x.pivot), x.size, x.bits
    shape = x.shape
    if role == PIVOT:
        rho = resized(
            unpacked((party.draw_planes(p + 1, 1, n) ^ party.draw_planes(p, 1, n))[0], n), bits
        ).reshape(shape)
        a = x.words
        deal(party, p, rho, shape, bits)
        deal(party, p, rho * a, shape, bits)
        if x.halves is None:
            deal(party, p, a, shape, bits)
        yield
        return Pair(role, p, nothing(shape, bits), bits, x.fraction)
    rho_mask = party.draw_planes(p + 1 if role == U else p, 1, n)
    late_rho = deal(party, p, None, shape, bits)
    late_rho_a = deal(party, p, None, shape, bits)
    late_a = x.halves if x.halves is not None else deal(party, p, None, shape, bits)
    mine = q.plane ^ rho_mask[0]
    other = p + (2 if role == U else 1)
    party.send(other, mine, 8)
    late = party.expect(other, mine.shape, 8)
    yield
    one = word_type(bits).type(1)
    d = resized(unpacked(mine ^ late.take(), n), bits).reshape(shape)
    flip = one - (d + d)
    words = flip * taken(late_rho)
    if role == U:
        words = words + d
    words *= resized(x.words, bits)
    words += flip * taken(late_rho_a)
    words += d * taken(late_a)
    return Pair(role, p, words, bits, x.fraction)


def gate_cost(elements: int, bits: int, halves: bool = True) -> Cost:
    return Cost(1, (2 if halves else 3) * deal_cost(elements, bits).bits + 2 * packed(elements, 1))


def arithmetic(party: Party, q: Bit, bits: int) -> Protocol[Pair]:
    """The bit itself as Pair(p) mod 2^bits (fraction 0). Rounds: 1; bits: k + 2."""
    p, role, n = q.pivot, party.role(q.pivot), q.size
    if role == PIVOT:
        rho = unpacked((party.draw_planes(p + 1, 1, n) ^ party.draw_planes(p, 1, n))[0], n).reshape(q.shape)
        deal(party, p, resized(rho, bits), q.shape, bits)
        yield
        return Pair(role, p, nothing(q.shape, bits), bits, 0)
    mask = party.draw_planes(p + 1 if role == U else p, 1, n)
    late_rho = deal(party, p, None, q.shape, bits)
    mine = q.plane ^ mask[0]
    other = p + (2 if role == U else 1)
    party.send(other, mine, 8)
    late = party.expect(other, mine.shape, 8)
    yield
    d = resized(unpacked(mine ^ late.take(), n), bits).reshape(q.shape)
    words = (word_type(bits).type(1) - (d + d)) * taken(late_rho)
    return Pair(role, p, words + d if role == U else words, bits, 0)


def arithmetic_cost(elements: int, bits: int) -> Cost:
    return Cost(1, deal_cost(elements, bits).bits + 2 * packed(elements, 1))


def concatenated(bits: list[Bit]) -> Bit:
    """Several bits of one shape as one, stacked on a new first axis."""
    first = bits[0]
    planes = np.stack(
        [unpacked(b.plane, b.size) if first.role != PIVOT else np.zeros(b.size, np.uint8) for b in bits]
    )
    plane = (
        nothing((-(-planes.size // 8),), 8)
        if first.role == PIVOT
        else np.packbits(planes.reshape(-1), bitorder="little")
    )
    return Bit(first.role, first.pivot, plane, (len(bits), *first.shape))
