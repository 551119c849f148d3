"""A gate that yields its value in a larger ring (docs/protocols.md, "Gates").

What passes the gate is small, so a small ring need hold it only there. With A and B in [0, 2^k) and their top
bits a and b, the sum is (A - 2^k a) + (B - 2^k b) + 2^k a b, as in the lift. The pivot deals its parts of
that with rho and without, so one round gates and lifts.
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost, replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.gate import chosen, gate, gate_cost, opened
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words, from_integers, reduced, resized, word_type


def lifting_gate(
    party: Party,
    q: Bit,
    x: Replicated | Split,
    bits: int,
    least: int | None = None,
    beside: Split | None = None,
) -> Protocol[Pair]:
    """q * (x + beside) as Pair(p) mod 2^bits, of an x mod 2^k, k < bits; exact.

    beside: a value mod 2^bits of the same pivot and scale, with halves of its A unless x is a Split.
    Condition where q = 1: `least` <= x < least + 2^(k-1), in units; least: -2^(k-2) unless stated. Masks: as
    `gate`. Rounds: 1; bits: 2 bits + 3 (bits - k) + 2, for a Split 3 bits + 2 (bits - k) + 2.
    """
    k, carry, p, role = x.bits, bits - x.bits, q.pivot, party.role(q.pivot)
    if carry <= 0 or q.shape != x.shape:
        raise ProtocolError(
            f"{q} gates {x} into {bits} bits", "a bit and a value of one shape, a larger ring"
        )
    offset = (1 << (k - 2)) if least is None else -least
    if role == PIVOT:
        _deal(party, q, x, bits, offset, beside)
        yield
        return Pair(role, p, nothing(q.shape, bits), Format(bits, x.fraction))
    mine = opened(party, q)
    late = [deal(party, p, None, q.shape, width) for width in _widths(x, bits)]
    yield
    d = mine.take()
    rho, rho_a, *parts, top, rho_top = (taken(words) for words in late)
    # 3. q A, where a half of A is dealt or held
    if isinstance(x, Split):
        (half,), b_word = parts, reduced(x.words, k)
    else:
        (turns,) = parts
        held, b_word = (x.first, x.second) if role == U else (x.second + from_integers(offset, k), x.first)
        half, b_word = resized(reduced(held, k), bits) - _raised(turns, k, bits), reduced(b_word, k)
        half = half if beside is None else half + _halves(beside)
    wide_d, flip = _choice(d, bits)
    words = flip * rho_a + wide_d * half
    # 4. q B, and the carry where b is set
    b = b_word >> b_word.dtype.type(k - 1)
    rest = resized(b_word, bits) - _raised(b, k, bits) - from_integers(offset, bits)
    if beside is not None:
        rest = rest + beside.words
    words = words + (flip * rho + wide_d if role == U else flip * rho) * rest
    short_d, flip = _choice(d, carry)
    words += _raised(reduced((short_d * top + flip * rho_top) * resized(b, carry), carry), k, bits)
    return Pair(role, p, words, Format(bits, x.fraction))


def _deal(party: Party, q: Bit, x: Replicated | Split, bits: int, offset: int, beside: Split | None) -> None:
    """The pivot's part: A at x's offset, less its top bit, in the larger ring; and the carries."""
    p, k, carry = q.pivot, x.bits, bits - x.bits
    # 1. A from the halves, and how often it must be corrected by 2^k
    if isinstance(x, Split):
        word = reduced(x.words + from_integers(offset, k), k)
    else:
        at_u = reduced(x.second, k)
        word = reduced(x.first + from_integers(offset, k) + at_u, k)
        wraps = (word < at_u).astype(word_type(carry))
    top = resized(word >> word.dtype.type(k - 1), carry)
    value = resized(word, bits) - _raised(top, k, bits)
    if beside is not None:
        value = value + beside.words
    # 2. all of it for the twins, with and without rho
    rho = chosen(party, q)
    parts = [value] if isinstance(x, Split) else [wraps + top]
    dealt = [resized(rho, bits), resized(rho, bits) * value, *parts, top, resized(rho, carry) * top]
    for words, width in zip(dealt, _widths(x, bits), strict=True):
        deal(party, p, words, q.shape, width)


def _widths(x: Replicated | Split, bits: int) -> list[int]:
    carry = bits - x.bits
    return [bits, bits, bits if isinstance(x, Split) else carry, carry, carry]


def _halves(x: Split) -> Words:
    if x.half is None:
        raise ProtocolError(f"the twins hold no halves of {x}", "deal them")
    return x.half


def _raised(words: Words, by: int, bits: int) -> Words:
    return resized(words, bits) << word_type(bits).type(by)


def _choice(d: Words, bits: int) -> tuple[Words, Words]:
    """d and 1 - 2d."""
    wide = resized(d, bits)
    return wide, word_type(bits).type(1) - (wide + wide)


def lifting_gate_cost(elements: int, source: int, bits: int, form: type = Replicated) -> Cost:
    more = bits - source
    dealt = [bits, bits, bits if form is Split else more, more, more]
    return Cost(1, sum(deal_cost(elements, width).bits for width in dealt) + 2 * packed(elements, 1))


def gated_up(
    party: Party, q: Bit, x: Split, bits: int, straight: bool = False, least: int = 0
) -> Protocol[Replicated]:
    """q * x as Replicated mod 2^bits: `gate` and `lift_pair`, or `straight` by `lifting_gate`, a round less.

    Exact; conditions of the two, where q = 0 for `lift_pair` as well. Rounds: 3 or 2; bits: `gated_up_cost`.
    """
    if not straight or bits <= x.bits:
        # 1. the gate, then the carry into the larger ring
        pair = yield from gate(party, q, x)
        return (yield from lift_pair(party, pair, bits, least))
    alone = Split(x.role, x.pivot, x.words, x.format)
    found = replicate_pair(party, (yield from lifting_gate(party, q, alone, bits, least)))
    yield
    return found


def gated_up_cost(elements: int, source: int, bits: int, straight: bool = False, halves: bool = True) -> Cost:
    if not straight or bits <= source:
        return gate_cost(elements, source, halves) + lift_pair_cost(elements, source, bits)
    return lifting_gate_cost(elements, source, bits, Split) + replicate_pair_cost(elements, bits)
