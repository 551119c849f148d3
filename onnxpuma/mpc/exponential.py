"""exp over a wide range, with a relative error: a table of powers of e by the integer part, one message.

A and B are cut at the point: their fractions only add up (to less than two), and e^(A_f + B_f) factors. The
pivot deals e^(A_f) e^n for every integer part n that the twins may hold, and they pick by theirs
(docs/protocols.md, "exp"). exp.py, for softmax, is a quarter of the price and right on
a window only.
"""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.convert import deal, deal_cost, pass_on, pass_on_cost
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.exp import TWIN_FRACTION, exp_below
from onnxpuma.mpc.party import PIVOT, Party, Protocol, nothing, taken
from onnxpuma.mpc.shares import Pair, Replicated, Split, see
from onnxpuma.mpc.truncate import lift, lift_cost
from onnxpuma.mpc.words import Words, from_integers, reduced

LOWEST, HIGHEST = -20, 11  # the argument's range
_POINT = 18  # fraction bits of the argument
_UNITS = 32  # integer parts: one more than the range, so that the sum of two fractions never wraps
_BITS = 23
_DEALT = 22  # fraction bits of the dealt powers, and of the twins' factor
_MADE = 2 * _DEALT


def exponential(party: Party, x: Replicated, pivot: int) -> Protocol[Replicated]:
    """e^x of x in [-20, 11) with 18 fraction bits, Replicated at the same scale mod 2^64.

    Relative error below 2^-17 (about 2^-20 on average), and one unit. Outside of the range the result is
    wrong. Masks: F_{p+1}. Rounds: 3; bits: `exponential_cost`, some 275 bytes an element.
    """
    seen = see(party, x.modulo(_BITS), pivot).plus(from_integers((1 - LOWEST) << _POINT, _BITS))
    pair = yield from _powers(party, seen)
    pair = pair.lowered(_MADE - x.fraction)
    return (yield from lift(party, pass_on(party, pair), 64))


def exponential_cost(elements: int) -> Cost:
    width = 64 - _MADE + _POINT
    back = pass_on_cost(elements, width) | lift_cost(elements, width, 64)
    return deal_cost(_UNITS * elements, 64) + back


def _powers(party: Party, x: Split) -> Protocol[Pair]:
    """Split(p) of x' in [1, 32) to Pair(p) of e^(x' + LOWEST - 1)."""
    p, role = x.pivot, x.role
    shape = (*x.shape, _UNITS)
    words = reduced(x.words, _BITS)
    fraction = words & words.dtype.type((1 << _POINT) - 1)
    whole = (words >> words.dtype.type(_POINT)).astype(np.int64)
    if role == PIVOT:
        powers = (whole[..., None] + np.arange(_UNITS)) % _UNITS + LOWEST  # one higher: the twins' is e^-1
        reals = np.exp(powers + (fraction * 2.0**-_POINT)[..., None])
        deal(party, p, np.rint(reals * 2.0**_DEALT).astype(np.uint64), shape, 64)
        yield
        return Pair(role, p, nothing(x.shape, 64), 64, _MADE)
    late = deal(party, p, None, shape, 64)
    yield
    picked = np.take_along_axis(taken(late), whole[..., None], axis=-1)[..., 0]
    return Pair(role, p, picked * _factor(fraction), 64, _MADE)


def _factor(fraction: Words) -> Words:
    """e^(B_f - 1) with _DEALT fraction bits, from exact integers: the same at both twins."""
    place = fraction.astype(np.uint64) + np.uint64(15 << _POINT)
    return exp_below(place, _BITS) >> np.uint64(TWIN_FRACTION - _DEALT)
