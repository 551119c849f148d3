"""A value clamped between two public ends, in a ring as small as they are (docs/protocols.md, "Gates").

One deal yields both signs, and only a value between the ends passes a gate: the result is small however far
out x lies.
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Pair, Replicated, Split, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.compare import SHORT_BITS, signs, signs_cost
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost, gate, gate_cost
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost
from onnxpuma.mpc.ring.words import from_integers


def clamped(
    party: Party, x: Split, low: int, high: int | None, bits: int, read: int | None = None
) -> Protocol[Pair]:
    """min(max(x, low), high) less low, of a Split(p) mod 2^k, as Pair(p) mod 2^bits; exact.

    x, low and high are words. read: the bits of x that are compared, all k unless stated. Conditions: low <=
    high, x - low and x - high within 2^(read-1), high - low < 2^bits; with high None, x - low below 2^bits.
    Masks: those of `signs`, `gate`, `arithmetic`. Rounds: 4, 3 for a few bits; bits: `clamped_cost`.
    """
    if high is not None and not 0 <= high - low < 1 << bits:
        raise ProtocolError(f"{x} clamped between {low} and {high} in {bits} bits", "the ends fit the ring")
    rest, coarse = x.plus(from_integers(-low, x.bits)).modulo(bits), x.modulo(read or x.bits)
    deep = coarse.bits > SHORT_BITS
    if high is None:
        (below,) = yield from signs(party, coarse, (low,), deep)
        return (yield from gate(party, ~below, rest))
    below, under = yield from signs(party, coarse, (low, high), deep)
    inside, above = yield from parallel([gate(party, below ^ under, rest), arithmetic(party, ~under, bits)])
    return inside + above.times(from_integers(high - low, bits), x.fraction)


def clamped_cost(elements: int, source: int, bits: int, both: bool = True) -> Cost:
    """The cost for a value where the twins hold halves of A. both: there is an upper end as well."""
    compared = signs_cost(elements, source, 1 + both, source > SHORT_BITS)
    gates = gate_cost(elements, bits)
    return compared + (gates | arithmetic_cost(elements, bits) if both else gates)


def between(
    party: Party, x: Replicated, pivot: int, low: int, high: int, bits: int, whole: bool = False
) -> Protocol[Replicated]:
    """min(max(x, low), high) in x's format, of words; x - low and x - high within 2^(bits-1).

    Exact. Rounds: 6, 5 for a few bits; one less where the gates take all bits of x (`whole`). Bits:
    `between_cost`.
    """
    ring = x.bits if whole else ring_of(low, high)
    seen = see(party, x if whole else x.modulo(max(bits, ring)), pivot)
    pair = yield from clamped(party, seen, low, high, ring, bits)
    held = yield from lift_pair(party, pair, x.bits, 0)
    return held.plus(from_integers(low, x.bits))


def between_and_above(
    party: Party, x: Replicated, pivot: int, low: int, high: int, bits: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """`between`, and max(x - high, 0) for |x - high| < 2^(bits-2). Both follow from the same bits, so the
    second costs a gate and a lift more. Rounds: 6, 5 for a few bits; bits: `between_and_above_cost`."""
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
    held, over = yield from parallel([lift_pair(party, pair, x.bits, 0), lift_pair(party, far, x.bits, 0)])
    return held.plus(from_integers(low, x.bits)), over


def between_and_above_cost(elements: int, low: int, high: int, bits: int, full: int) -> Cost:
    ring = ring_of(low, high)
    back = lift_pair_cost(elements, ring, full) | lift_pair_cost(elements, bits, full)
    compared = signs_cost(elements, bits, 2, bits > SHORT_BITS)
    gates = gate_cost(elements, ring) | gate_cost(elements, bits) | arithmetic_cost(elements, ring)
    return compared + gates + back


def ring_of(low: int, high: int) -> int:
    """Bits of the ring of a value between the ends, with room for the lift."""
    return max(4, (high - low).bit_length() + 1)


def between_cost(elements: int, low: int, high: int, bits: int, full: int, whole: bool = False) -> Cost:
    """full: bits of x's ring."""
    k = full if whole else ring_of(low, high)
    return clamped_cost(elements, bits, k) + lift_pair_cost(elements, k, full)
