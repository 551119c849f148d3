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
from onnxpuma.mpc.forms import Pair, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.gate import gate_dealt, gate_dealt_cost
from onnxpuma.mpc.protocols.inside import inside, inside_cost
from onnxpuma.mpc.protocols.powers import power
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
    p, unit, point = x.pivot, window.unit, x.fraction
    shift, last = point + unit, window.cases - 1
    bit = yield from inside(party, x, shift, window.cases)
    words, kind = reduced(x.words, x.bits), word_type(x.bits).type
    low, digit = words & kind((1 << shift) - 1), (words >> kind(shift)) & kind(last)
    dealt: list[Words] | None = None
    if party.role(p) == PIVOT:
        # 1. for each b mod `cases` the power for a + b
        every = [power(low, shift, point, -(t << unit), window.dealt) for t in range(window.cases)]
        dealt = [_picked(every, kind(last) & (kind(0) - digit - kind(b))) for b in range(window.cases)]
    halves = yield from gate_dealt(party, bit, dealt, window.cases, width)
    if party.role(p) == PIVOT:
        return Pair(PIVOT, p, halves[0], POWER.modulo(width))
    # 2. each twin picks the case of its b, and multiplies by its power
    factor = power(low, shift, point, -window.top, FRACTION - window.dealt)
    return Pair(x.role, p, _picked(halves, digit) * resized(factor, width), POWER.modulo(width))


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
