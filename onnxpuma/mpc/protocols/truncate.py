"""Lifting to a larger ring, and truncation by it (docs/protocols.md, "Lift and truncation").

A shift drops the low bits of each component and shrinks the ring by as many, so no share wraps and the error
stays small, unlike that of a local truncation [SecureML]. The lift returns to the full ring with an exact
carry. The terms are shifted before they are exchanged: the bits that were dropped are not sent.
"""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, Sum3
from onnxpuma.mpc.party import PIVOT, Maybe, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.ring.steps import lift_end, lift_lead, lift_open
from onnxpuma.mpc.ring.words import resized


def lift(party: Party, x: Split, bits: int) -> Protocol[Replicated]:
    """Split(p) mod 2^k of a signed x to Replicated mod 2^bits; exact for -2^(k-2) <= x < 2^(k-2).

    Let a and b be the top bits of A + 2^(k-2) and of B. As integers A + B wraps past 2^k if a OR b, and
    a OR b = b + a(1-b). The pivot shares a between the twins, who open a(1-b) under masks that the pivot
    knows. Masks: r, a_u, m_u from F_{p+1}, m_v from F_p. An x outside the range comes out 2^k too large or
    too small.
    Rounds: 2, the first one way from the pivot, which knows its part at once; bits: `bits` + 3(bits - k).
    For bits <= k: 1 round, `bits` bits.
    """
    p, role, k, shape = x.pivot, party.role(x.pivot), x.bits, x.shape
    carry = bits - k
    if carry <= 0:
        return (yield from _hand_over(party, x, bits))
    if role == PIVOT:
        # 1. A less r and a less a_u go to v; u derives r and a_u
        r, a_u = party.draw(p + 1, shape, bits), party.draw(p + 1, shape, carry)
        m_u, m_v = party.draw(p + 1, shape, carry), party.draw(p, shape, carry)
        rest, top, y_v, y_u = lift_lead(x.words, r, a_u, m_u, m_v, k, carry)
        party.send(p + 2, rest, bits)
        party.send(p + 2, top, carry)
        yield
        yield
        return Replicated(party.index, y_v, y_u, Format(bits, x.fraction))

    late: list[Maybe]
    if role == U:
        late = [party.draw(p + 1, shape, bits), party.draw(p + 1, shape, carry)]
        m = party.draw(p + 1, shape, carry)
    else:
        late = [party.expect(p, shape, bits), party.expect(p, shape, carry)]
        m = party.draw(p, shape, carry)
    yield
    # 2. the twins open a(1-b) + m_u + m_v
    rest, a, words = taken(late[0]), taken(late[1]), x.words
    mine = lift_open(words, a, m, k, carry)
    other = p + (V if role == U else U)
    party.send(other, mine, carry)
    theirs = party.expect(other, shape, carry)
    yield
    # 3. y_{p+2} = B - 2^k (b + opened); the other two components cancel the masks
    common, own = lift_end(words, mine, theirs.take(), rest, m, k, carry, role == U)
    first, second = (own, common) if role == U else (common, own)
    return Replicated(party.index, first, second, Format(bits, x.fraction))


def _hand_over(party: Party, x: Split, bits: int) -> Protocol[Replicated]:
    """Split(p) -> Replicated in the same ring or a smaller one: y_{p+1} = F_{p+1}, y_p = A - F_{p+1}."""
    p, role = x.pivot, party.role(x.pivot)
    if role == V:
        late = party.expect(p, x.shape, bits)
        yield
        return Replicated(party.index, resized(x.words, bits), late.take(), Format(bits, x.fraction))
    r = party.draw(p + 1, x.shape, bits)
    if role == U:
        yield
        return Replicated(party.index, r, resized(x.words, bits), Format(bits, x.fraction))
    rest = resized(x.words, bits) - r
    party.send(p + 2, rest, bits)
    yield
    return Replicated(party.index, rest, r, Format(bits, x.fraction))


def lift_cost(elements: int, source: int, bits: int) -> Cost:
    carry = bits - source
    if carry <= 0:
        return Cost(1, packed(elements, bits))
    return Cost(2, packed(elements, bits) + 3 * packed(elements, carry))


def resolve(party: Party, z: Sum3 | Replicated, pivot: int, format: Format) -> Protocol[Replicated]:
    """A product (Sum3) or a Replicated value, truncated to `format`.

    |z| < 2^(k-2), less two units of the result. Error: below 1.5 units of the result, mean zero.
    Rounds: 2 (the pivot's part of the lift travels with the exchange). Bits: from (64, 36) to (64, 18)
    2 * 46 + 64 + 3 * 18 = 210 an element.
    Where the bits that the shift leaves are as many as the result has, there is no lift and no condition: a
    product takes 1 round, three times the result's bits; a Replicated value is lowered locally.
    """
    shift = z.fraction - format.fraction
    if isinstance(z, Replicated) and _is_local(shift, z.bits, format.bits):
        return z.lowered(shift).modulo(format.bits)
    read = format.modulo(_width(z.bits, shift, format.bits))
    return (yield from lift(party, split(party, z, pivot, read), format.bits))


def resolve_cost(elements: int, shift: int, ring: int, form: type = Sum3, bits: int | None = None) -> Cost:
    """For z mod 2^ring, of which `shift` bits are dropped; bits: of the result's ring, where it differs."""
    bits = ring if bits is None else bits
    if form is Replicated and _is_local(shift, ring, bits):
        return Cost()
    width = _width(ring, shift, bits)
    back = lift_cost(elements, width, bits)
    return Cost(back.rounds, back.bits + split_cost(elements, width, form).bits)


def _is_local(shift: int, ring: int, bits: int) -> bool:
    """Whether a Replicated value still has all the bits of the result after the shift."""
    return shift >= 0 and ring - shift >= bits


def _width(ring: int, shift: int, bits: int) -> int:
    """Bits of a value that are sent: those that the shift leaves, and no more than the result has."""
    return min(ring - max(shift, 0), bits)
