"""sqrt(x) of a non-negative value over the whole range, including sums of squares that outgrow a word.

The argument is scaled like that of a reciprocal root, by a power that grows with x. A value below the window
counts as zero, and so does its root (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import replicate_sum, replicate_sum_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import (
    CARRIER,
    WHOLE_RANGE,
    count_bits,
    in_window,
    in_window_cost,
    ring_of,
)
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.mpc.protocols.wide_root import HIGHEST, Readings

_HELD = CARRIER - 5  # bits of a root times its power
_KEPT = 30  # fraction bits of a root in the window, at most


def square_root(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    format: Format,
    digits: tuple[int, int] = WHOLE_RANGE,
) -> Protocol[Replicated]:
    """sqrt(x), (n,), in `format`, of x with an even number of fraction bits.

    `digits`: `digits_of` the range in which x lies; for an x below it the root is less than twice that of its
    end. Relative error below 2^-18, and one unit of the result. Condition: 0 <= x.
    Rounds: 8; bits: `square_root_cost`, one element a row.
    """
    low, high = digits
    _even(x.fraction)
    kept = min(_KEPT, _HELD - 1 - (high - low))
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and 2^(d - low)
    seen = split(party, x, pivot, x.format.modulo(ring_of(digits)))
    counts = count_bits(digits)
    scaled = yield from to_window(party, seen, low, high, False, counts, power_bits=CARRIER, rising=True)
    # 2. its root, led by the next party, back to the full ring
    root = yield from in_window(party, scaled.value, "sqrt", high, kept, 1.0)
    # 3. times the power
    product = multiply(party, root.with_fraction(kept + x.fraction // 2 - low), scaled.power)
    return (yield from resolve(party, product, pivot, format))


def square_root_cost(
    elements: int, source: int, format: Format, digits: tuple[int, int] = WHOLE_RANGE, form: type = Sum3
) -> Cost:
    """source: fraction bits of x."""
    low, high = digits
    kept = min(_KEPT, _HELD - 1 - (high - low))
    total = window_cost(elements, low, high, ring_of(digits), count_bits(digits), power_bits=CARRIER)
    total = total + in_window_cost("sqrt", elements, kept, 1.0)
    total = total + resolve_cost(
        elements, kept + source // 2 - low - format.fraction, CARRIER, bits=format.bits
    )
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


def _even(fraction: int) -> None:
    if fraction % 2:
        raise ProtocolError(f"a root of {fraction} fraction bits", "an even scale")


def _kept(readings: Readings, low: int) -> tuple[int, int, int]:
    """Fraction bits of both roots in their windows, and of the sum of roots times powers."""
    first, last = readings.digits
    held = min(
        _HELD - (last - readings.coarse.fraction // 2),
        min(_KEPT, _HELD - 1 - (HIGHEST - low)) + readings.fine // 2 - low,
    )
    return held - readings.fine // 2 + low, min(_KEPT, held - readings.coarse.fraction // 2 + first), held


def wide_square_root(
    party: Party, fine: Sum3, coarse: Sum3, pivot: int, format: Format, low: int = 1
) -> Protocol[Replicated]:
    """sqrt(x), (n,), in `format`, of x in two readings (`Readings`).

    low: of the fine reading's digits. Error: that of `square_root`, and the coarse reading's. Condition:
    0 <= x < 2^(ring - 2) units of the coarse reading. Rounds: 8; bits: `wide_square_root_cost`.
    """
    readings = Readings(fine.fraction, coarse.format)
    first, last = readings.digits
    near_kept, far_kept, held = _kept(readings, low)
    _even(fine.fraction)
    # 1. both are scaled to the window, which also yields [x is small enough for the fine one]
    seen = [split(party, x, pivot, x.format) for x in (fine, coarse)]
    near, far = yield from parallel(
        [
            to_window(party, seen[0], low, HIGHEST, rising=True),
            to_window(party, seen[1], first, last, power_bits=CARRIER, flagged=True, rising=True),
        ]
    )
    assert far.small is not None
    # 2. both roots, while a gate clears the power of the unused one
    small, root, other = yield from parallel(
        [
            _gated(party, near.power, far.small),
            in_window(party, near.value, "sqrt", HIGHEST, near_kept, 1.0),
            in_window(party, far.value, "sqrt", last, far_kept, 1.0),
        ]
    )
    # 3. the sum of root times power
    product = multiply(party, root.with_fraction(held), small)
    missing = held - (far_kept + readings.coarse.fraction // 2 - first)
    outer = multiply(party, other.with_fraction(held - missing), far.power - far.small)
    product = product + outer.times(outer.format.word.type(1 << missing), missing)
    return (yield from resolve(party, product, pivot, format))


def _gated(party: Party, power: Replicated, bit: Replicated) -> Protocol[Replicated]:
    yield from settle(party, power)
    return (yield from settle(party, replicate_sum(party, multiply(party, power, bit))))


def wide_square_root_cost(elements: int, readings: Readings, format: Format, low: int = 1) -> Cost:
    first, last = readings.digits
    near_kept, far_kept, held = _kept(readings, low)
    ring = readings.coarse.bits
    read = split_cost(elements, CARRIER).bits + split_cost(elements, ring).bits
    both = window_cost(elements, low, HIGHEST, CARRIER) | window_cost(
        elements, first, last, ring, power_bits=CARRIER, flagged=True
    )
    roots = in_window_cost("sqrt", elements, near_kept, 1.0) | in_window_cost("sqrt", elements, far_kept, 1.0)
    gated = replicate_sum_cost(elements, CARRIER).bits
    product = resolve_cost(elements, held - format.fraction, CARRIER, bits=format.bits)
    return Cost(0, read + gated) + both + roots + product
