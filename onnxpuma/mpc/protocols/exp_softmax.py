"""exp on a window of 16 units, as softmax uses it (docs/protocols.md, "exp").

Let the ring 2^k stand for L = 32 units, and x' lie in [0, 16). A + B wraps past 2^k if a OR b, and the twins
know b, so the pivot deals one value for each b. The twins multiply by integer tables that exact decimals
yield: both must use the same factor, whatever their machines' floating point.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, taken
from onnxpuma.mpc.protocols.convert import deal, deal_cost
from onnxpuma.mpc.ring.arrays import constants, nothing
from onnxpuma.mpc.ring.words import WIDEST, Words, encode, reduced, resized, word, word_type

SPAN = 16  # the window: x' in [0, SPAN)
PERIOD_BITS = 5  # L = 32 <-> the whole ring
DEALT_FRACTION = 18  # fraction bits of the e^x that the pivot deals
TWIN_FRACTION = 42  # fraction bits of the twins' factor
FRACTION = DEALT_FRACTION + TWIN_FRACTION  # fraction bits of the product
POWER = Format(WIDEST, FRACTION)  # an e^x of at most one leaves the sign bit and room for the lift
_LOW_BITS = 10
_LOW_FRACTION = 20


@lru_cache(maxsize=4)
def tables(bits: int = 20) -> tuple[Words, Words]:
    """(high, low) with e^(x' - 16) = high[x' >> low bits] * low[x' mod 2^(low bits)], for x' in [0, 16).

    One unit of x' is 2^(bits - 5). high has TWIN_FRACTION fraction bits, low _LOW_FRACTION; both are exact
    decimals, rounded.
    """
    unit, low_bits = Decimal(2) ** (PERIOD_BITS - bits), _low_bits(bits)
    with localcontext() as context:
        context.prec = 40
        high = [(unit * (i << low_bits) - SPAN).exp() for i in range(1 << (bits - 1 - low_bits))]
        low = [(unit * i).exp() for i in range(1 << low_bits)]
        parts = ((high, TWIN_FRACTION), (low, _LOW_FRACTION))
        words = [[int((x * (1 << f)).to_integral_value()) for x in values] for values, f in parts]
    return constants(words[0], POWER.bits), constants(words[1], POWER.bits)


def _low_bits(bits: int) -> int:
    return min(_LOW_BITS, bits - 1)


def exp_below(words: Words, bits: int) -> Words:
    """e^(x' - 16) with TWIN_FRACTION bits for x' in [0, 16), in exact integers; relative error 2^-18."""
    (high, low), low_bits = tables(bits), _low_bits(bits)
    fine = low[(words & words.dtype.type((1 << low_bits) - 1)).astype(np.intp)]
    coarse = high[(words >> words.dtype.type(low_bits)).astype(np.intp)]
    return (coarse * fine) >> word(_LOW_FRACTION, POWER.bits)


def exp_window(party: Party, x: Split, width: int = POWER.bits) -> Protocol[Pair]:
    """Split(p) of x' in [0, 16), 2^k <-> 32, to Pair(p) of e^(x' - 16) in the format POWER.

    Condition: x' lies in the window as the ring reads it, rounding included; outside, the result is wrong by
    a factor of e^16 or e^32. Error: below 2^-17. Masks: F_{p+1}. width: bits of the ring in which the pivot
    deals; below 62 the result loses its high bits (for tests of privacy).
    Rounds: 1, one way from the pivot, which knows its part at once; bits: 128.
    """
    p, role, k, shape = x.pivot, party.role(x.pivot), x.bits, x.shape
    words_of = word_type(k).type
    if role == PIVOT:
        words = reduced(x.words, k)
        a = words >> words_of(k - 1)
        low_half = (words & words_of((1 << (k - 1)) - 1)) * 2.0 ** (PERIOD_BITS - k)
        within, small = np.exp(low_half), np.exp(low_half - SPAN)
        # 1. both cases of b: for b = 1 (one wrap) e^(A - 16); for b = 0 e^(A - 32) if a, else e^A
        for cases in ((within, small), (small, within)):
            dealt = encode(np.where(a, *cases), DEALT_FRACTION, POWER.bits)
            deal(party, p, dealt, shape, width)
        yield
        return Pair(role, p, nothing(shape, width), POWER.modulo(width))
    late = [deal(party, p, None, shape, width) for _ in range(2)]
    yield
    # 2. the twins know b and pick; their factor is e^(B - 32) for b = 1, e^(B - 16) for b = 0
    words = reduced(x.words, k)
    b = (words >> words_of(k - 1)).astype(bool)
    factor = exp_below(words & words_of((1 << (k - 1)) - 1), k)
    y = np.where(b, taken(late[0]), taken(late[1])) * resized(factor, width)
    return Pair(role, p, y, POWER.modulo(width))


def exp_window_cost(elements: int) -> Cost:
    return Cost(1, 2 * deal_cost(elements, POWER.bits).bits)


def floor_constant() -> Words:
    """e^-16 in the format POWER: the result for a value that was clipped to the window's lower end."""
    high, _ = tables()
    return constants(high[0] << word(DEALT_FRACTION, POWER.bits), POWER.bits)
