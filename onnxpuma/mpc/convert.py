"""From one form to another (protocols.md, section 2), each by at most one exchange.

The results may still be on their way when a function returns (`Later` words): the pivot's part is known at
once, so whatever the pivot deals next travels in the same round. `settle` waits where that is not wanted.
"""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, U, V, Maybe, Party, Protocol, lazily, nothing
from onnxpuma.mpc.shares import Pair, Replicated, Split, Sum3, see
from onnxpuma.mpc.words import Words, resized, word_type


def split(party: Party, x: Replicated | Sum3 | Split, pivot: int, fraction: int, bits: int) -> Split:
    """x read at `fraction` fraction bits mod 2^bits, split by `pivot`.

    Replicated: free. Sum3: the twins send each other their z, `bits` each way, one round that is still
    open when this returns. Masks: the zero-share inside z (F_{p+1} resp. F_p of the pivot's keys).
    Error: below 1.5 units of 2^-fraction, mean zero; exact when nothing is shifted away.
    """
    shift = x.fraction - fraction
    if isinstance(x, Split):
        return x.lowered(shift, bits) if shift > 0 else x.modulo(bits)
    if shift < 0:
        x = x.times(word_type(x.bits).type(1 << -shift), -shift)
        shift = 0
    narrow = x.lowered(shift).modulo(bits)
    if isinstance(narrow, Replicated):
        return see(party, narrow, pivot)
    role = party.role(pivot)
    if role == PIVOT:
        return Split(role, pivot, narrow.words, bits, fraction)
    other = pivot + (2 if role == U else 1)
    party.send(other, narrow.words, bits)
    mine = narrow.words
    arriving = party.expect(other, narrow.shape, bits)
    return Split(role, pivot, lazily(lambda words: words + mine, arriving), bits, fraction)


def split_cost(elements: int, bits: int, form: type = Sum3) -> Cost:
    return Cost(1, 2 * packed(elements, bits)) if form is Sum3 else Cost()


def settle(party: Party, x: Replicated) -> Protocol[Replicated]:
    """Wait for words that are still on their way."""
    if x.pending:
        yield
    return x


def replicate_pair(party: Party, y: Pair) -> Replicated:
    """Pair(p) -> Replicated, 2k bits, one round that is still open when this returns.

    y_{p+1} = F_{p+1}, y_p = F_p; the twins send each other their half less that mask, y_{p+2} is the sum.
    """
    p, role = y.pivot, y.role
    if role == PIVOT:
        return Replicated(
            party.index,
            party.draw(p, y.shape, y.bits),
            party.draw(p + 1, y.shape, y.bits),
            y.bits,
            y.fraction,
        )
    mask = party.draw(p + 1 if role == U else p, y.shape, y.bits)
    mine = y.words - mask
    other = p + (2 if role == U else 1)
    party.send(other, mine, y.bits)
    late = lazily(lambda words: words + mine, party.expect(other, y.shape, y.bits))
    first, second = (mask, late) if role == U else (late, mask)
    return Replicated(party.index, first, second, y.bits, y.fraction)


def replicate_pair_cost(elements: int, bits: int) -> Cost:
    return Cost(1, 2 * packed(elements, bits))


def pass_on(party: Party, y: Pair) -> Split:
    """Pair(p) -> Split(p+1), k bits, one round that is still open when this returns.

    zeta = F_{p+2}; u keeps A = y_u + zeta; v keeps B = y_v - zeta and sends it to p.
    """
    p, role, pivot = y.pivot, y.role, (y.pivot + 1) % 3
    if role == PIVOT:
        return Split(party.role(pivot), pivot, party.expect(p + 2, y.shape, y.bits), y.bits, y.fraction)
    zeta = party.draw(p + 2, y.shape, y.bits)
    if role == U:
        return Split(party.role(pivot), pivot, y.words + zeta, y.bits, y.fraction)
    mine = y.words - zeta
    party.send(p, mine, y.bits)
    return Split(party.role(pivot), pivot, mine, y.bits, y.fraction)


def pass_on_cost(elements: int, bits: int) -> Cost:
    return Cost(1, packed(elements, bits))


def replicate_sum(party: Party, z: Sum3) -> Replicated:
    """Sum3 -> Replicated, 3k bits, one round that is still open when this returns: P_i sends z_i to P_{i-1}."""
    party.send(party.index - 1, z.words, z.bits)
    return Replicated(
        party.index, z.words, party.expect(party.index + 1, z.shape, z.bits), z.bits, z.fraction
    )


def replicate_sum_cost(elements: int, bits: int) -> Cost:
    return Cost(1, 3 * packed(elements, bits))


def deal(party: Party, pivot: int, words: Words | None, shape: tuple[int, ...], bits: int) -> Maybe:
    """The pivot's words, additively to its twins: u derives its half from F_{p+1}, v is sent the rest.

    Returns this twin's half. `words` is None at the twins; the pivot gets a stand-in. One message,
    `bits` an element, in the round that is open.
    """
    role = party.role(pivot)
    if role == V:
        return party.expect(pivot, shape, bits)
    half = party.draw(pivot + 1, shape, bits)
    if role == U:
        return half
    assert words is not None
    party.send(pivot + 2, resized(words, bits) - half, bits)
    return nothing(shape, bits)


def deal_cost(elements: int, bits: int) -> Cost:
    return Cost(1, packed(elements, bits))
