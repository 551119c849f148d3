"""sqrt(x) of a value that is not negative, over the whole range, also of sums of squares that outgrow a word.

Normalised like the argument of a reciprocal root, with a power that grows with x. What is below the window is
as good as zero, and so is its root (docs/protocols.md, "Reciprocals").
"""

from __future__ import annotations

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.convert import replicate_sum, replicate_sum_cost, settle, split, split_cost
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.power_of_four import to_window, window_cost
from onnxpuma.mpc.protocols.reciprocal import WHOLE_RANGE, count_bits, in_window, in_window_cost, ring_of
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.mpc.protocols.wide_root import HIGHEST, Readings

_HELD = 59  # bits of a root times its power
_KEPT = 30  # fraction bits of a root in the window, at most


def square_root(
    party: Party,
    x: Replicated | Sum3,
    pivot: int,
    fraction: int,
    digits: tuple[int, int] = WHOLE_RANGE,
) -> Protocol[Replicated]:
    """sqrt(x), (n,), with `fraction` fraction bits mod 2^64, of x with an even number of them.

    `digits`: `digits_of` the range x is known to lie in; below it the root is less than twice that of its
    end. Relative error below 2^-18, and one unit of the result. Condition: 0 <= x.
    Rounds: 8; bits: `square_root_cost`, one element a row.
    """
    low, high = digits
    _even(x.fraction)
    kept = min(_KEPT, _HELD - 1 - (high - low))
    # 1. v = x 4^(high - d) in [1/4, 2) of the window, and 2^(d - low)
    seen = split(party, x, pivot, x.fraction, ring_of(digits))
    counts = count_bits(digits)
    scaled = yield from to_window(party, seen, low, high, False, counts, power_bits=64, rising=True)
    # 2. its root, led by the next party, back to the full ring
    root = yield from in_window(party, scaled.value, "sqrt", high, kept, 1.0)
    # 3. times the power
    product = multiply(party, root.with_fraction(kept + x.fraction // 2 - low), scaled.power)
    return (yield from resolve(party, product, pivot, fraction))


def square_root_cost(
    elements: int, source: int, fraction: int, digits: tuple[int, int] = WHOLE_RANGE, form: type = Sum3
) -> Cost:
    low, high = digits
    kept = min(_KEPT, _HELD - 1 - (high - low))
    total = window_cost(elements, low, high, ring_of(digits), count_bits(digits), power_bits=64)
    total = total + in_window_cost("sqrt", elements, kept, 1.0)
    total = total + resolve_cost(elements, kept + source // 2 - low - fraction)
    return total + Cost(0, split_cost(elements, ring_of(digits), form).bits)


def _even(fraction: int) -> None:
    if fraction % 2:
        raise ProtocolError(f"a root of {fraction} fraction bits", "an even scale")


def _kept(readings: Readings, low: int) -> tuple[int, int, int]:
    """Fraction bits of both roots in their windows, and of the sum of roots times powers."""
    first, last = readings.digits
    held = min(
        _HELD - (last - readings.coarse // 2),
        min(_KEPT, _HELD - 1 - (HIGHEST - low)) + readings.fine // 2 - low,
    )
    return held - readings.fine // 2 + low, min(_KEPT, held - readings.coarse // 2 + first), held


def wide_square_root(
    party: Party, fine: Sum3, coarse: Sum3, pivot: int, fraction: int, low: int = 1
) -> Protocol[Replicated]:
    """sqrt(x), (n,), `fraction` fraction bits mod 2^64, of x in two readings (`Readings`).

    low: of the fine reading's digits. Error as in `square_root`, and what the coarse reading adds. Condition:
    0 <= x < 2^(ring - 2) units of the coarse reading. Rounds: 8; bits: `wide_square_root_cost`.
    """
    readings = Readings(fine.fraction, coarse.fraction, coarse.bits)
    first, last = readings.digits
    near_kept, far_kept, held = _kept(readings, low)
    _even(fine.fraction)
    # 1. both are normalised; [x is small enough for the fine one] comes with it
    seen = [split(party, x, pivot, x.fraction, x.bits) for x in (fine, coarse)]
    near, far = yield from parallel(
        [
            to_window(party, seen[0], low, HIGHEST, rising=True),
            to_window(party, seen[1], first, last, power_bits=64, flagged=True, rising=True),
        ]
    )
    assert far.small is not None
    # 2. both roots, while the power of the one that does not count becomes zero
    small, root, other = yield from parallel(
        [
            _gated(party, near.power, far.small),
            in_window(party, near.value, "sqrt", HIGHEST, near_kept, 1.0),
            in_window(party, far.value, "sqrt", last, far_kept, 1.0),
        ]
    )
    # 3. the sum of root times power
    product = multiply(party, root.with_fraction(held), small)
    missing = held - (far_kept + readings.coarse // 2 - first)
    outer = multiply(party, other.with_fraction(held - missing), far.power - far.small)
    product = product + outer.times(np.uint64(1 << missing), missing)
    return (yield from resolve(party, product, pivot, fraction))


def _gated(party: Party, power: Replicated, bit: Replicated) -> Protocol[Replicated]:
    yield from settle(party, power)
    return (yield from settle(party, replicate_sum(party, multiply(party, power, bit))))


def wide_square_root_cost(elements: int, readings: Readings, fraction: int, low: int = 1) -> Cost:
    first, last = readings.digits
    near_kept, far_kept, held = _kept(readings, low)
    read = split_cost(elements, 64).bits + split_cost(elements, readings.ring).bits
    both = window_cost(elements, low, HIGHEST) | window_cost(
        elements, first, last, readings.ring, power_bits=64, flagged=True
    )
    roots = in_window_cost("sqrt", elements, near_kept, 1.0) | in_window_cost("sqrt", elements, far_kept, 1.0)
    gated = replicate_sum_cost(elements, 64).bits
    return Cost(0, read + gated) + both + roots + resolve_cost(elements, held - fraction)
