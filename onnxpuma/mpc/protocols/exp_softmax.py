"""exp near the top of a range, and zero far below it, as softmax uses it (docs/protocols.md, "exp").

x' is a digit and a part below it, in windows of W units. For each part below, the sum of A's and B's is less
than two windows, so the digits alone say whether x' is in range, and which power of e^W is missing: the twins
know it from b up to the few cases that the pivot deals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.gate import (
    gate_dealt,
    gate_dealt_cost,
    gate_dealt_long,
    gate_dealt_long_cost,
)
from onnxpuma.mpc.protocols.inside import inside, inside_cost
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.powers import power
from onnxpuma.mpc.ring.arrays import flat
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words, reduced, resized, word_type

FRACTION = 60  # fraction bits of the result
POWER = Format(FRACTION + 1, FRACTION)  # a power is less than one


@dataclass(frozen=True)
class Window:
    """How an exponential is dealt."""

    unit: int  # log2 of the units of a digit
    cases: int  # digits whose powers the pivot deals; a power of two
    dealt: int  # fraction bits of the pivot's power; the twins' has the rest of FRACTION

    @property
    def top(self) -> int:
        """The argument lies below this, and has a power below one."""
        return 1 << self.unit

    @property
    def reach(self) -> int:
        """Units below `top` in which no power is missing."""
        return (self.cases - 1) << self.unit

    def digit_bits(self, spread: float) -> int:
        """Bits of the digits of an argument that lies at most `spread` below `top`."""
        bits = self.cases.bit_length()
        while ((1 << bits) - 1) << self.unit < spread:
            bits += 1
        return bits


NARROW = Window(4, 2, 18)
WIDE = Window(3, 4, 25)


def exp_window(party: Party, x: Split, window: Window = NARROW, width: int = POWER.bits) -> Protocol[Pair]:
    """Split(p) of x' < top to Pair(p) of e^(x' - top) in the format POWER.

    A power is not missing where x' >= top - reach, is zero where x' < -reach, and either between the two.
    Condition: x' >= -(D - 2) top, with digits mod D. The point of x' is that of its format.
    Error: below 2^-18, with WIDE 2^-20 of the result and 2^-24. Masks: those of `inside`,
    F_{p+1} on the powers, rho on the bit as in `gate`. width: bits of the ring in which the pivot
    deals; with fewer the result loses its high bits (for tests of privacy).
    Rounds: those of `inside`, whose first message the pivot knows at once, and 1; bits: `exp_window_cost`.
    """
    bit, digit, powers = yield from _powers(party, x, window)
    dealt = powers if x.role == PIVOT else None
    halves = yield from gate_dealt(party, bit, dealt, window.cases, width)
    if x.role == PIVOT:
        return Pair(PIVOT, x.pivot, halves[0], POWER.modulo(width))
    words = _picked(halves, digit) * resized(powers[0], width)
    return Pair(x.role, x.pivot, words, POWER.modulo(width))


def exp_window_long(party: Party, x: Split, window: Window, bits: int) -> Protocol[LongPair]:
    """`exp_window` mod 2^bits, LONGEST at most. Shifted to fewer fraction bits, the result is right in a ring
    as wide as what is left, and needs no lift. Bits: `exp_window_long_cost`.
    """
    bit, digit, powers = yield from _powers(party, x, window)
    dealt = powers if x.role == PIVOT else None
    halves = yield from gate_dealt_long(party, bit, dealt, window.cases, bits)
    words = None
    if x.role != PIVOT:
        digit = flat(digit)
        which = (_picked([half.low for half in halves], digit), _picked([h.high for h in halves], digit))
        words = Long(*which) * Long.of_words(flat(powers[0]))
    return LongPair(x.role, x.pivot, words, x.shape, bits)


def _powers(party: Party, x: Split, window: Window) -> Protocol[tuple[Bit, Words, list[Words]]]:
    """Whether a power is not zero, the digit mod `cases`, and powers: those that the pivot deals, one for
    each b mod `cases`; at a twin the one by which it multiplies that of its b.
    """
    unit, point = window.unit, x.fraction
    shift, last = point + unit, window.cases - 1
    bit = yield from inside(party, x, shift, window.cases)
    words, kind = reduced(x.words, x.bits), word_type(x.bits).type
    low, digit = words & kind((1 << shift) - 1), (words >> kind(shift)) & kind(last)
    if x.role != PIVOT:
        return bit, digit, [power(low, shift, point, -window.top, FRACTION - window.dealt)]
    every = [power(low, shift, point, -(t << unit), window.dealt) for t in range(window.cases)]
    return bit, digit, [_picked(every, kind(last) & (kind(0) - digit - kind(b))) for b in range(window.cases)]


def _picked(choices: list[Words], which: Words) -> Words:
    """Of each element the choice with this number."""
    found = choices[0]
    for number, choice in enumerate(choices[1:], 1):
        found = np.where(which == which.dtype.type(number), choice, found)
    return found


def exp_window_cost(elements: int, bits: int, window: Window = NARROW) -> Cost:
    """bits: of the digits above the window (`Window.digit_bits`)."""
    gated = gate_dealt_cost(elements, window.cases, POWER.bits)
    return inside_cost(elements, bits, window.cases) + gated


def exp_window_long_cost(elements: int, digits: int, window: Window, bits: int) -> Cost:
    """digits: bits of the digits above the window; bits: of the ring."""
    return inside_cost(elements, digits, window.cases) + gate_dealt_long_cost(elements, window.cases, bits)
