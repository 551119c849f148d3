"""A bit times a value, both known to the same pivot and twins (docs/protocols.md, "Gates").

The pivot draws rho, of which both twins hold XOR shares from PRF keys. The twins open d = q xor rho, and
q x = d A + (1-2d) rho A + B (d + (1-2d) rho) is local in the words that the pivot dealt.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Split
from onnxpuma.mpc.party import PIVOT, Later, Party, Protocol, U, V, lazily, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost
from onnxpuma.mpc.protocols.long_words import deal_long, deal_long_cost
from onnxpuma.mpc.ring.arrays import as_plane, flat, joined, nothing, stacked, unpacked
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import WIDEST, Words, resized, word_type


def gate(party: Party, q: Bit, x: Split) -> Protocol[Pair]:
    """q * x as Pair(p), for the XOR-shared bit q and x split by the same pivot, in x's ring; exact.

    Masks: rho by one bit each of F_{p+1} and F_p, the dealt words by F_{p+1}.
    Rounds: 1; bits: 2k + 2 where the twins hold halves of A (any Replicated value), else 3k + 2.
    """
    if (q.pivot, q.shape) != (x.pivot, x.shape):
        raise ProtocolError(f"{q} gates {x}", "a bit and a value of one shape, led by one pivot")
    p, role, bits, shape = x.pivot, party.role(x.pivot), x.bits, x.shape
    if role == PIVOT:
        # 1. rho, rho A and, where the twins hold no halves of it, A
        rho, a = resized(chosen(party, q), bits), x.words
        deal(party, p, rho, shape, bits)
        deal(party, p, rho * a, shape, bits)
        if x.halves is None:
            deal(party, p, a, shape, bits)
        yield
        return Pair(role, p, nothing(shape, bits), x.format)
    # 2. in the same round the twins open d
    late = opened(party, q)
    late_rho = deal(party, p, None, shape, bits)
    late_rho_a = deal(party, p, None, shape, bits)
    late_a = deal(party, p, None, shape, bits) if x.halves is None else x.halves
    yield
    d = resized(late.take(), bits)
    flip = word_type(bits).type(1) - (d + d)
    # 3. q B = B (d + (1-2d) rho), and u adds the d; then the two dealt products
    words = flip * taken(late_rho)
    if role == U:
        words = words + d
    words = words * resized(x.words, bits)
    words += flip * taken(late_rho_a)
    words += d * taken(late_a)
    return Pair(role, p, words, x.format)


def chosen(party: Party, q: Bit) -> Words:
    """The pivot's rho, as bytes: u holds the bits of F_{p+1} as its share, v those of F_p."""
    p, n = q.pivot, q.size
    plane = party.draw_planes(p + 1, 1, n) ^ party.draw_planes(p, 1, n)
    return unpacked(plane[0], n).reshape(q.shape)


def opened(party: Party, q: Bit) -> Later:
    """d = q xor rho at a twin, as bytes, when this round ends: the twins send each other their planes."""
    p, n = q.pivot, q.size
    mine = q.plane ^ party.draw_planes(p + 1 if q.role == U else p, 1, n)[0]
    other = p + (V if q.role == U else U)
    party.send(other, mine, 8)
    arriving = party.expect(other, mine.shape, 8)
    late = lazily(lambda theirs: unpacked(mine ^ theirs, n).reshape(q.shape), arriving, shape=q.shape)
    assert isinstance(late, Later)
    return late


def gate_cost(elements: int, bits: int, halves: bool = True) -> Cost:
    return Cost(1, (2 if halves else 3) * deal_cost(elements, bits).bits + 2 * packed(elements, 1))


def gate_dealt(
    party: Party, q: Bit, words: Sequence[Words] | None, count: int, bits: int
) -> Protocol[list[Words]]:
    """q * E for `count` arrays E of q's shape that the pivot alone knows: this twin's halves mod 2^bits.

    `words`: the arrays, None at the twins. Masks as `gate`. Rounds: 1; bits: `gate_dealt_cost`.
    """
    p, role, shape = q.pivot, party.role(q.pivot), q.shape
    if role == PIVOT:
        assert words is not None
        rho = resized(chosen(party, q), bits)
        for each in words:
            deal(party, p, each, shape, bits)
            deal(party, p, rho * resized(each, bits), shape, bits)
        yield
        return [nothing(shape, bits)] * count
    arriving = opened(party, q)
    late = [[deal(party, p, None, shape, bits) for _ in range(2)] for _ in range(count)]
    yield
    d = resized(arriving.take(), bits)
    flip = word_type(bits).type(1) - (d + d)
    return [d * taken(whole) + flip * taken(gated) for whole, gated in late]


def gate_dealt_long(
    party: Party, q: Bit, words: Sequence[Words] | None, count: int, bits: int
) -> Protocol[list[Long]]:
    """`gate_dealt` mod 2^bits for up to LONGEST bits: (n,) each. The pivot's result has no meaning."""
    p, role, n = q.pivot, party.role(q.pivot), q.size
    widths = [bits] * (2 * count)
    if role == PIVOT:
        assert words is not None
        rho = resized(chosen(party, q).reshape(-1), WIDEST)
        every = [resized(flat(each), WIDEST) for each in words]
        dealt = stacked([*every, *(rho * each for each in every)], axis=1)
        deal_long(party, p, Long.of_words(dealt), n, widths)
        yield
        return []
    arriving = opened(party, q)
    late = deal_long(party, p, None, n, widths)
    yield
    d, found = arriving.take().reshape(-1), late.take()
    return [found[:, i].kept(d) + found[:, count + i].opposed(d) for i in range(count)]


def gate_dealt_long_cost(elements: int, count: int, bits: int) -> Cost:
    return deal_long_cost(elements, [bits] * (2 * count)) | Cost(1, 2 * packed(elements, 1))


def gate_dealt_cost(elements: int, count: int, bits: int) -> Cost:
    return Cost(1, 2 * count * deal_cost(elements, bits).bits + 2 * packed(elements, 1))


def arithmetic(party: Party, q: Bit, bits: int) -> Protocol[Pair]:
    """The bit itself as Pair(p) mod 2^bits (fraction 0). Masks as `gate`. Rounds: 1; bits: k + 2."""
    p, role = q.pivot, party.role(q.pivot)
    if role == PIVOT:
        deal(party, p, resized(chosen(party, q), bits), q.shape, bits)
        yield
        return Pair(role, p, nothing(q.shape, bits), Format(bits, 0))
    late = opened(party, q)
    late_rho = deal(party, p, None, q.shape, bits)
    yield
    d = resized(late.take(), bits)
    words = (word_type(bits).type(1) - (d + d)) * taken(late_rho)
    return Pair(role, p, words + d if role == U else words, Format(bits, 0))


def arithmetic_cost(elements: int, bits: int) -> Cost:
    return Cost(1, deal_cost(elements, bits).bits + 2 * packed(elements, 1))


def concatenated(bits: list[Bit]) -> Bit:
    """Several bits of one shape, led by one pivot, stacked on a new first axis."""
    first = bits[0]
    shape = (len(bits), *first.shape)
    if any((b.pivot, b.shape) != (first.pivot, first.shape) for b in bits):
        raise ProtocolError(f"{bits} stacked", "bits of one shape, led by one pivot")
    if first.role == PIVOT:
        return Bit(PIVOT, first.pivot, nothing((-(-len(bits) * first.size // 8),), 8), shape)
    every = joined([unpacked(b.plane, b.size) for b in bits])
    return Bit(first.role, first.pivot, as_plane(every), shape)
