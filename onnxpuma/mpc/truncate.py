"""Lifting to a larger ring and truncation, exact up to the rounding of a shift (protocols.md, section 3).

A shift drops the low bits of each component and shrinks the ring by as many bits, so nothing large can go
wrong; the lift brings the value back to the full ring with an exact carry. Shifting before the exchange
saves 2 bits of exchange for each bit of lift that it costs 3 of, and the exchange of the low bits.
"""

from __future__ import annotations

from onnxpuma.mpc.convert import split, split_cost
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, U, V, Party, Protocol
from onnxpuma.mpc.shares import Replicated, Split, Sum3
from onnxpuma.mpc.words import Words, reduced, resized, word_type


def lift(party: Party, x: Split, bits: int) -> Protocol[Replicated]:
    """Split(p) mod 2^k of a signed x, |x| < 2^(k-2), to Replicated mod 2^bits; exact.

    As integers A + B wraps past 2^k when a OR b (the most significant bits; 2^(k-2) was added to A), and
    a OR b = b + a(1-b). The pivot shares a between the twins, who open a(1-b) under masks known to the
    pivot. Masks: r, a_u, m_u from F_{p+1}, m_v from F_p.
    Rounds: 2, the first one way from the pivot and known to it at once; bits: `bits` + 3(bits - k).
    For bits <= k: 1 round, `bits` bits.
    """
    p, role, k = x.pivot, party.role(x.pivot), x.bits
    carry = bits - k
    if carry <= 0:
        return (yield from _hand_over(party, x, bits))
    kind, shape = word_type(bits), x.shape
    carry_one = word_type(carry).type(1)
    offset, power = kind.type(1 << (k - 2)), kind.type(1 << k)

    if role == PIVOT:
        a = reduced(x.words + x.words.dtype.type(1 << (k - 2)), k)
        msb = resized(a >> a.dtype.type(k - 1), carry)
        r = party.draw(p + 1, shape, bits)
        party.send(p + 2, resized(a, bits) - r, bits)
        party.send(p + 2, msb - party.draw(p + 1, shape, carry), carry)
        m_u = resized(reduced(party.draw(p + 1, shape, carry), carry), bits)
        m_v = resized(reduced(party.draw(p, shape, carry), carry), bits)
        yield
        y_v = (resized(a, bits) - r) + m_v * power - offset
        y_u = r + m_u * power
        yield
        return Replicated(party.index, y_v, y_u, bits, x.fraction)

    if role == U:
        r = party.draw(p + 1, shape, bits)
        a_share: Words = party.draw(p + 1, shape, carry)
        m = party.draw(p + 1, shape, carry)
        yield
    else:
        late_r = party.expect(p, shape, bits)
        late_a = party.expect(p, shape, carry)
        m = party.draw(p, shape, carry)
        yield
        r, a_share = late_r.take(), late_a.take()
    b_word = reduced(x.words, k)
    b = b_word >> b_word.dtype.type(k - 1)
    mine = a_share * (carry_one - resized(b, carry)) + m
    other = p + (2 if role == U else 1)
    party.send(other, mine, carry)
    late = party.expect(other, shape, carry)
    yield
    opened = resized(reduced(mine + late.take(), carry), bits)
    y_twins = resized(b_word, bits) - (resized(b, bits) + opened) * power
    m = resized(reduced(m, carry), bits)
    if role == U:
        return Replicated(party.index, r + m * power, y_twins, bits, x.fraction)
    return Replicated(party.index, y_twins, r + m * power - offset, bits, x.fraction)


def _hand_over(party: Party, x: Split, bits: int) -> Protocol[Replicated]:
    """Split(p) -> Replicated in the same ring or a smaller one: y_{p+1} = F_{p+1}, y_p = A - F_{p+1}."""
    p, role = x.pivot, party.role(x.pivot)
    if role == V:
        late = party.expect(p, x.shape, bits)
        yield
        return Replicated(party.index, resized(x.words, bits), late.take(), bits, x.fraction)
    r = party.draw(p + 1, x.shape, bits)
    if role == U:
        yield
        return Replicated(party.index, r, resized(x.words, bits), bits, x.fraction)
    rest = resized(x.words, bits) - r
    party.send(p + 2, rest, bits)
    yield
    return Replicated(party.index, rest, r, bits, x.fraction)


def lift_cost(elements: int, source: int, bits: int) -> Cost:
    carry = bits - source
    if carry <= 0:
        return Cost(1, packed(elements, bits))
    return Cost(2, packed(elements, bits) + 3 * packed(elements, carry))


def resolve(
    party: Party, z: Sum3 | Replicated, pivot: int, fraction: int = 18, bits: int = 64
) -> Protocol[Replicated]:
    """A product (Sum3) or a Replicated value, truncated to `fraction` fraction bits in Z_2^bits.

    |z| < 2^(k-2). Error below 1.5 units of 2^-fraction, mean zero.
    Rounds: 2 (the pivot's part of the lift travels with the exchange); at k = 64, f = 36 -> 18:
    2 * 46 + 64 + 3 * 18 = 210 bits an element.
    """
    shift = z.fraction - fraction
    if isinstance(z, Replicated) and shift == 0 and z.bits >= bits:
        return z.modulo(bits)
    return (yield from lift(party, split(party, z, pivot, fraction, z.bits - max(shift, 0)), bits))


def resolve_cost(elements: int, shift: int, source: int = 64, bits: int = 64, form: type = Sum3) -> Cost:
    width = source - max(shift, 0)
    if form is Replicated and shift == 0 and source >= bits:
        return Cost()
    back = lift_cost(elements, width, bits)
    return Cost(back.rounds, back.bits + split_cost(elements, width, form).bits)
