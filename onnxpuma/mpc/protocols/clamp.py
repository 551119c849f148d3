"""A value held between two public ends, in a ring as small as they are (docs/protocols.md, "Gates").

Both signs come from one deal, and only what lies between the ends is gated: however far out x may be, what
comes out is small.
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Pair, Replicated, Split, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.compare import signs, signs_cost
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost, gate, gate_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.words import from_integers

SHORT_BITS = 18  # that are compared in two rounds; more take three


def clamped(party: Party, x: Split, low: int, high: int | None, bits: int) -> Protocol[Pair]:
    """min(max(x, low), high) less low, of a Split(p) mod 2^k, as Pair(p) mod 2^bits; exact.

    low <= high and x as words, x - low and x - high within 2^(k-1); high - low < 2^bits. high None: x - low
    is known to be below 2^bits. Masks: those of `signs`, `gate`, `arithmetic`. Rounds: 4, 3 for a few bits;
    bits: `clamped_cost`.
    """
    if high is not None and not 0 <= high - low < 1 << bits:
        raise ProtocolError(f"{x} held between {low} and {high} in {bits} bits", "the ends fit the ring")
    rest, deep = x.plus(from_integers(-low, x.bits)).modulo(bits), x.bits > SHORT_BITS
    if high is None:
        (below,) = yield from signs(party, x, (low,), deep)
        return (yield from gate(party, ~below, rest))
    below, under = yield from signs(party, x, (low, high), deep)
    inside, above = yield from parallel([gate(party, below ^ under, rest), arithmetic(party, ~under, bits)])
    return inside + above.times(from_integers(high - low, bits), x.fraction)


def clamped_cost(elements: int, source: int, bits: int, both: bool = True) -> Cost:
    """Of a value of whose A the twins hold halves. both: there is an upper end."""
    compared = signs_cost(elements, source, 1 + both, source > SHORT_BITS)
    gates = gate_cost(elements, bits)
    return compared + (gates | arithmetic_cost(elements, bits) if both else gates)


def between(
    party: Party, x: Replicated, pivot: int, low: int, high: int, bits: int = 64
) -> Protocol[Replicated]:
    """min(max(x, low), high), words in and out, mod 2^64; x - low and x - high within 2^(bits-1).

    Exact. Rounds: 6, 5 for a few bits; bits: `between_cost`.
    """
    pair = yield from clamped(party, see(party, x.modulo(bits), pivot), low, high, ring_of(low, high))
    held = yield from lift(party, pass_on(party, pair), x.bits)
    return held.plus(from_integers(low, x.bits))


def between_and_above(
    party: Party, x: Replicated, pivot: int, low: int, high: int, bits: int = 64
) -> Protocol[tuple[Replicated, Replicated]]:
    """`between`, and max(x - high, 0), of which |x - high| < 2^(bits-2). The bits are the same, so it costs a
    gate and a lift more; rounds: 6, 5 for a few bits; bits: `between_and_above_cost`."""
    seen, ring = see(party, x.modulo(bits), pivot), ring_of(low, high)
    below, under = yield from signs(party, seen, (low, high), bits > SHORT_BITS)
    less = [seen.plus(from_integers(-end, bits)) for end in (low, high)]
    inside, far, above = yield from parallel(
        [
            gate(party, below ^ under, less[0].modulo(ring)),
            gate(party, ~under, less[1]),
            arithmetic(party, ~under, ring),
        ]
    )
    pair = inside + above.times(from_integers(high - low, ring), x.fraction)
    held, over = yield from parallel(
        [lift(party, pass_on(party, pair), 64), lift(party, pass_on(party, far), 64)]
    )
    return held.plus(from_integers(low, 64)), over


def between_and_above_cost(elements: int, low: int, high: int, bits: int = 64) -> Cost:
    more = pass_on_cost(elements, bits) | lift_cost(elements, bits, 64)
    ring = ring_of(low, high)
    back = pass_on_cost(elements, ring) | lift_cost(elements, ring, 64)
    compared = signs_cost(elements, bits, 2, bits > SHORT_BITS)
    gates = gate_cost(elements, ring) | gate_cost(elements, bits) | arithmetic_cost(elements, ring)
    return compared + gates + (back | more)


def ring_of(low: int, high: int) -> int:
    """Bits of the ring in which what lies between the ends is lifted."""
    return max(4, (high - low).bit_length() + 2)


def between_cost(elements: int, low: int, high: int, bits: int = 64) -> Cost:
    k = ring_of(low, high)
    return clamped_cost(elements, bits, k) + (pass_on_cost(elements, k) | lift_cost(elements, k, 64))
