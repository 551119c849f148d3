"""A product whose first factor is still a sum of three terms (docs/protocols.md, "Products").

The usual way makes both factors Replicated and multiplies locally; the product then takes an exchange of its
own. Here one round brings the first factor to the twins and yields the product, since the pivot, which knows
its parts of both factors at once, deals what they add up to.
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Sum3, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost, split, split_cost
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words, from_integers, reduced, resized, word_type


def multiply_terms(
    party: Party, x: Sum3, y: Replicated, pivot: int, least: int | None = None
) -> Protocol[Pair]:
    """x * y of one shape as Pair(pivot) in the ring of y, of an x mod 2^k in a smaller one; exact.

    With A and B the parts of x - least in [0, 2^k), a and b their top bits, and A' + B' = y:
    x = A - 2^k a + least + B - 2^k b + 2^k a b, as in the lift. The pivot deals the number A - 2^k a + least
    and its product with A', a, and a A'; the twins have halves of A'.
    Condition: `least` <= x < least + 2^(k-1), in units; least: -2^(k-2) unless stated. Masks:
    those of `split`, and F_{p+1} on what is dealt.
    Rounds: 1; bits: `multiply_terms_cost`.
    """
    k, bits, role, shape = x.bits, y.bits, party.role(pivot), x.shape
    carry = bits - k
    if carry <= 0 or y.shape != shape:
        raise ProtocolError(
            f"the terms of {x} times {y}", "two values of one shape, the second in a larger ring"
        )
    made = Format(bits, x.fraction + y.fraction)
    seen, other = split(party, x, pivot, x.format), see(party, y, pivot)
    offset = from_integers(1 << (k - 2) if least is None else -least, bits)
    if role == PIVOT:
        # 1. its number and its top bit, alone and times A'
        word = reduced(seen.words + resized(offset, k), k)
        top = resized(word >> word.dtype.type(k - 1), carry)
        number = resized(word, bits) - _raised(top, k, bits) - offset
        dealt = [number * other.words, number, top * resized(other.words, carry), top]
        for words, width in zip(dealt, _widths(k, bits), strict=True):
            deal(party, pivot, words, shape, width)
        yield
        return Pair(role, pivot, nothing(shape, bits), made)
    late = [deal(party, pivot, None, shape, width) for width in _widths(k, bits)]
    yield
    # 2. the twins know B and B', and multiply the halves that they have by these
    of_both, of_number, of_top, top = (taken(words) for words in late)
    whole, half = resized(other.words, bits), other.half
    assert half is not None
    word = reduced(seen.words, k)
    bit = word >> word.dtype.type(k - 1)
    rest = resized(word, bits) - _raised(bit, k, bits)
    words = of_both + of_number * whole + rest * (half + whole if role == U else half)
    turns = resized(bit, carry) * (of_top + top * resized(whole, carry))
    return Pair(role, pivot, words + _raised(reduced(turns, carry), k, bits), made)


def multiply_terms_cost(elements: int, source: int, bits: int) -> Cost:
    """source: the bits of the first factor's ring; bits: of the second's."""
    dealt = sum(deal_cost(elements, width).bits for width in _widths(source, bits))
    return Cost(1, dealt) | split_cost(elements, source)


def _widths(source: int, bits: int) -> list[int]:
    return [bits, bits, bits - source, bits - source]


def _raised(words: Words, by: int, bits: int) -> Words:
    return resized(words, bits) << word_type(bits).type(by)


def product_of_terms(
    party: Party, x: Sum3, y: Replicated, pivot: int, bits: int, format: Format, least: int | None = None
) -> Protocol[Replicated]:
    """x * y, Replicated in `format`, multiplied mod 2^bits; y has these bits or more.

    Condition: that of `multiply_terms`; and |x y| < 2^(bits-2) in words, less two units of the result, unless
    the shift leaves as many bits as the result has. Error: below a unit of the result, mean zero.
    Rounds: 3, 2 where the shift leaves the bits of the result; bits: `product_of_terms_cost`.
    """
    pair = yield from multiply_terms(party, x, y.modulo(bits), pivot, least)
    pair = pair.lowered(pair.fraction - format.fraction)
    return (yield from lift_pair(party, pair, format.bits))


def product_of_terms_cost(elements: int, source: Format, fraction: int, bits: int, format: Format) -> Cost:
    """source: the format of the first factor; fraction: of the second."""
    left = bits - (source.fraction + fraction - format.fraction)
    return multiply_terms_cost(elements, source.bits, bits) + lift_pair_cost(elements, left, format.bits)
