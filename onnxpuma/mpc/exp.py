"""exp on a window of 16 units, and softmax's use of it (protocols.md, section 5).

With L = 32 <-> 2^k and x' in [0, 16): A + B wraps past 2^k when a OR b, and the twins know b, so the pivot
deals one value for each b. Both parts are products of integer tables, computed with exact decimals: the
twins multiply by them, so they must not depend on a machine's floating point.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.convert import deal, deal_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.party import PIVOT, Party, Protocol, nothing, taken
from onnxpuma.mpc.shares import Pair, Split
from onnxpuma.mpc.words import Words, reduced

SPAN = 16  # the window: x' in [0, SPAN)
PERIOD_BITS = 5  # L = 32 <-> the whole ring
DEALT_FRACTION = 18
TWIN_FRACTION = 42
FRACTION = DEALT_FRACTION + TWIN_FRACTION  # of the result, mod 2^64
_LOW_BITS = 10


@lru_cache(maxsize=4)
def tables(bits: int = 20) -> tuple[Words, Words]:
    """(high, low) with e^(x' - 16) = high[x' >> low bits] * low[x' mod ...], x' in [0, 16) at 2^(bits-5) a unit.

    high has TWIN_FRACTION bits, low 20; both are rounded from exact decimals.
    """
    unit = Decimal(2) ** (PERIOD_BITS - bits)
    with localcontext() as context:
        context.prec = 40
        step = unit * (1 << _LOW_BITS)
        high = [
            int((((step * i) - SPAN).exp() * (1 << TWIN_FRACTION)).to_integral_value())
            for i in range(1 << (bits - 1 - _LOW_BITS))
        ]
        low = [int(((unit * i).exp() * (1 << 20)).to_integral_value()) for i in range(1 << _LOW_BITS)]
    return np.array(high, np.uint64), np.array(low, np.uint64)


def _exp_below(words: Words, bits: int) -> Words:
    """e^(x' - 16) with TWIN_FRACTION bits for x' in [0, 16), exact integers; error below 2^-21 relative."""
    high, low = tables(bits)
    fine = low[(words & words.dtype.type((1 << _LOW_BITS) - 1)).astype(np.intp)]
    return (high[(words >> words.dtype.type(_LOW_BITS)).astype(np.intp)] * fine) >> np.uint64(20)


def exp_window(party: Party, x: Split) -> Protocol[Pair]:
    """Split(p) of x' in [0, 16), 2^k <-> 32, to Pair(p) of e^(x' - 16), 60 fraction bits mod 2^64.

    Error: below 2^-17. Masks: F_{p+1}. Rounds: 1, one way from the pivot; bits: 128.
    """
    p, role, k = x.pivot, party.role(x.pivot), x.bits
    shape = x.shape
    if role == PIVOT:
        words = reduced(x.words, k)
        low_half = (words & words.dtype.type((1 << (k - 1)) - 1)).astype(np.uint64)
        a = words >> words.dtype.type(k - 1)
        unit = 2.0 ** (PERIOD_BITS - k)
        within = np.exp(low_half * unit)  # e^(A mod 16)
        small = np.exp(low_half * unit - SPAN)
        scale = 2.0**DEALT_FRACTION
        # b = 1 wraps once: e^(A - 16); b = 0: e^(A - 32) when a, else e^A
        deal(party, p, np.rint(np.where(a, within, small) * scale).astype(np.uint64), shape, 64)
        deal(party, p, np.rint(np.where(a, small, within) * scale).astype(np.uint64), shape, 64)
        yield
        return Pair(role, p, nothing(shape, 64), 64, FRACTION)
    late = [deal(party, p, None, shape, 64) for _ in range(2)]
    yield
    words = reduced(x.words, k)
    b = (words >> words.dtype.type(k - 1)).astype(bool)
    factor = _exp_below(
        words & words.dtype.type((1 << (k - 1)) - 1), k
    )  # b = 1: e^(B - 32), b = 0: e^(B - 16)
    y = np.where(b, taken(late[0]), taken(late[1]))
    y *= factor
    return Pair(role, p, y, 64, FRACTION)


def exp_window_cost(elements: int) -> Cost:
    return Cost(1, 2 * deal_cost(elements, 64).bits)


def floor_constant() -> Words:
    """e^-16 at FRACTION bits: what a value clipped to the window's lower end evaluates to."""
    high, _ = tables()
    return np.uint64(int(high[0]) << DEALT_FRACTION)
