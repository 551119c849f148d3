"""From one form to another, each by at most one exchange (docs/protocols.md, "Conversions").

A function may return before its words have arrived (`Later`). The pivot knows its part at once, so whatever
it deals next travels in the same round. `settle` waits where the caller needs the words.
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Split, Sum3, see
from onnxpuma.mpc.party import PIVOT, Later, Maybe, Party, Protocol, U, V, lazily
from onnxpuma.mpc.protocols.linear import zero_share
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words, resized, word_type


def split(party: Party, x: Replicated | Sum3 | Split, pivot: int, format: Format) -> Split:
    """x read in `format`, split by `pivot`.

    Replicated: free. Sum3: the twins send each other their terms, k bits each way, in one round that is
    still open when this returns. Masks: F_{p+1} on u's term, -F_p on v's; the pivot's A takes the difference.
    Error: below 1.5 units, mean zero; exact where no bit is shifted away.
    """
    shift, bits = x.fraction - format.fraction, format.bits
    if bits > x.bits - max(shift, 0):
        raise ProtocolError(
            f"{bits} bits of {x} at {format.fraction} fraction bits", "read no more bits than there are"
        )
    if isinstance(x, Split):
        return x.lowered(shift, bits) if shift > 0 else x.modulo(bits)
    if shift < 0:
        x = x.times(word_type(x.bits).type(1 << -shift), -shift)
        shift = 0
    if isinstance(x, Replicated):
        return see(party, x.lowered(shift).modulo(bits), pivot)
    narrow = _masked(party, x, pivot).lowered(shift).modulo(bits)
    role = party.role(pivot)
    if role == PIVOT:
        return Split(role, pivot, narrow.words, format)
    other, mine = pivot + (V if role == U else U), narrow.words
    party.send(other, mine, bits)
    theirs = party.expect(other, narrow.shape, bits)
    return Split(role, pivot, lazily(lambda w: w + mine, theirs, shape=narrow.shape), format)


def _masked(party: Party, z: Sum3, pivot: int) -> Sum3:
    """The terms under a zero-share of the pivot's two keys, of which each twin knows one."""
    role = party.role(pivot)
    words = z.words
    if role != V:
        mask = party.draw(pivot + 1, z.shape, z.bits)
        words = words + mask if role == U else words - mask
    if role == V:
        words = words - party.draw(pivot, z.shape, z.bits)
    elif role == PIVOT:
        words += party.draw(pivot, z.shape, z.bits)
    return Sum3(z.party, words, z.format)


def split_cost(elements: int, bits: int, form: type = Sum3) -> Cost:
    return Cost(1, 2 * packed(elements, bits)) if form is Sum3 else Cost()


def settle(party: Party, x: Replicated) -> Protocol[Replicated]:
    """Yield once if words of x are still on their way."""
    if x.pending:
        yield
    return x


def replicate_pair(party: Party, y: Pair) -> Replicated:
    """Pair(p) -> Replicated, 2k bits, one round that is still open when this returns.

    y_{p+1} = F_{p+1} and y_p = F_p. Each twin sends the other its half less that mask; y_{p+2} is the sum.
    """
    p, role = y.pivot, y.role
    if role == PIVOT:
        first = Later.early(party, party.draw(p, y.shape, y.bits))
        second = Later.early(party, party.draw(p + 1, y.shape, y.bits))
        return Replicated(party.index, first, second, y.format)
    mask = party.draw(p + 1 if role == U else p, y.shape, y.bits)
    other, mine = p + (V if role == U else U), y.words - mask
    party.send(other, mine, y.bits)
    total = lazily(lambda w: w + mine, party.expect(other, y.shape, y.bits), shape=y.shape)
    if role == U:
        return Replicated(party.index, mask, total, y.format)
    return Replicated(party.index, total, mask, y.format)


def replicate_pair_cost(elements: int, bits: int) -> Cost:
    return Cost(1, 2 * packed(elements, bits))


def pass_on(party: Party, y: Pair) -> Split:
    """Pair(p) -> Split(p+1), k bits, one round that is still open when this returns.

    zeta = F_{p+2}; u keeps A = y_u + zeta; v keeps B = y_v - zeta and sends it to p.
    """
    p, role, pivot = y.pivot, y.role, (y.pivot + 1) % 3
    if role == PIVOT:
        words: Maybe = party.expect(p + 2, y.shape, y.bits)
    elif role == U:
        words = y.words + party.draw(p + 2, y.shape, y.bits)
    else:
        words = y.words - party.draw(p + 2, y.shape, y.bits)
        party.send(p, words, y.bits)
    return Split(party.role(pivot), pivot, words, y.format)


def pass_on_cost(elements: int, bits: int) -> Cost:
    return Cost(1, packed(elements, bits))


def replicate_sum(party: Party, z: Sum3) -> Replicated:
    """Sum3 -> Replicated, 3k bits, one round that is still open when this returns.

    P_i sends z_i + F_i - F_{i+1} to P_{i-1}, which does not hold K_{i+1}.
    """
    words = z.words + zero_share(party, z.shape, z.bits)
    party.send(party.index - 1, words, z.bits)
    arriving = party.expect(party.index + 1, z.shape, z.bits)
    return Replicated(party.index, words, arriving, z.format)


def replicate_sum_cost(elements: int, bits: int) -> Cost:
    return Cost(1, 3 * packed(elements, bits))


def deal(party: Party, pivot: int, words: Words | None, shape: tuple[int, ...], bits: int) -> Maybe:
    """Share the pivot's words between its twins: u derives its half from F_{p+1}, the pivot sends v the rest.

    Returns this twin's half, and a stand-in at the pivot. `words` is None at the twins. One message in the
    open round, `bits` an element.
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


def deal_halves(party: Party, x: Split) -> Split:
    """x with halves of its A at the twins, as a Replicated value has them; k bits in the open round."""
    words = x.words if x.role == PIVOT else None
    return x.with_halves(deal(party, x.pivot, words, x.shape, x.bits))


def deal_cost(elements: int, bits: int) -> Cost:
    return Cost(1, packed(elements, bits))
