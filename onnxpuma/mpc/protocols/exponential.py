"""exp over the whole range of the format, with a relative error: a table of powers of e, one message.

x is held between -20 and 29.8, where e^x reaches 2^43. A and B are cut at the lowest two bits before the
point: what stands behind the cut only adds up (to less than eight), and e^(A' + B') factors. The pivot deals
e^A' e^(4n) for every n that the twins may hold, and they pick by theirs (docs/protocols.md, "exp"). Large
powers have a table of their own with fewer fraction bits, because no word holds both with all digits.
exp.py, for softmax, is a fraction of the price and right on a window only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Pair, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, nothing, parallel, taken
from onnxpuma.mpc.protocols.clamp import clamped, clamped_cost
from onnxpuma.mpc.protocols.convert import deal, deal_cost, pass_on, pass_on_cost
from onnxpuma.mpc.protocols.exp_softmax import TWIN_FRACTION, exp_below
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.words import Words, from_integers, reduced

LOWEST, HIGHEST = -20, 43 * math.log(2) - 0.005  # the argument is held between them
_POINT = 18  # fraction bits of the argument
_BLOCK = 4  # units: what is left of it in A and B adds up to less than two, so x' starts at one
_CUT = _POINT + 2
_PLACES = 23  # bits of exp_below's argument


@dataclass(frozen=True)
class Table:
    """Powers of at least `least` and below `most`, with `dealt` fraction bits, and the twins' factor."""

    least: float
    most: float
    dealt: int
    factor: int

    @property
    def made(self) -> int:
        return self.dealt + self.factor

    @property
    def width(self) -> int:
        """Of the result at 18 fraction bits."""
        return 64 - (self.made - _POINT)


SMALL = Table(0.0, 2.0**20, 18, 24)
LARGE = Table(2.0**20, 2.0**64, -3, 22)
_ALL = (Table(0.0, 2.0**40, 18, 24),)


@dataclass(frozen=True)
class Powers:
    """What is dealt where arguments stay below `top`: entries, and the tables of them."""

    top: float
    blocks: int
    tables: tuple[Table, ...]

    @property
    def bits(self) -> int:
        """Of the argument's ring."""
        return _CUT + (self.blocks - 1).bit_length()

    @property
    def ends(self) -> tuple[int, int | None]:
        """The words between which the argument is held; it is known to be below a `top` that is not all."""
        low = LOWEST << _POINT
        return low, (math.floor(HIGHEST * 2**_POINT) if self.top >= HIGHEST else None)


def powers_below(top: float = math.inf) -> Powers:
    """The cheapest for arguments below `top`."""
    if top < 7.9:
        return Powers(top, 8, _ALL)
    return Powers(top, 16, _ALL if top < 13.8 else (SMALL, LARGE))


def exponential(
    party: Party, x: Replicated, pivot: int, top: float = math.inf, bits: int = 64
) -> Protocol[Replicated]:
    """e^x of any x with 18 fraction bits, Replicated at the same scale mod 2^64.

    Relative error below 2^-16 (about 2^-19 on average), and two units; from 29.8 on it stays where it is,
    just below 2^43. top: x is known to be below it. bits: x is read mod 2^bits, and is 64 units less than
    half of that. Masks: those of `clamped` and `pass_on`, F_{p+2} on the tables.
    Rounds: 7, 6 for a few bits; bits: `exponential_cost`.
    """
    powers = powers_below(top)
    low, high = powers.ends
    # 1. x held between the ends, counted from one block below the lower one
    pair = yield from clamped(party, see(party, x.modulo(bits), pivot), low, high, powers.bits)
    held = pass_on(party, pair.plus(from_integers(_BLOCK << _POINT, powers.bits)))
    # 2. the next pivot deals the powers, and each table's part goes back to the full ring
    made = yield from _picked(party, held, powers)
    parts = yield from parallel(
        lift(party, pass_on(party, part.lowered(part.fraction - _POINT)), 64) for part in made
    )
    total, *more = parts
    for other in more:
        total = total + other
    return total


def exponential_cost(elements: int, top: float = math.inf, bits: int = 64) -> Cost:
    powers = powers_below(top)
    held = clamped_cost(elements, bits, powers.bits, both=powers.ends[1] is not None)
    dealt = deal_cost(len(powers.tables) * powers.blocks * elements, 64)
    back = Cost()
    for table in powers.tables:
        back |= pass_on_cost(elements, table.width) | lift_cost(elements, table.width, 64)
    return held + (pass_on_cost(elements, powers.bits) | dealt) + back


def _picked(party: Party, x: Split, powers: Powers) -> Protocol[list[Pair]]:
    """Split(p) of x' = x - LOWEST + 4 to Pair(p) of e^x, the sum of one for each table."""
    p, role, blocks = x.pivot, party.role(x.pivot), powers.blocks
    shape = (*x.shape, blocks)
    if role == PIVOT:
        rest, block = _cut(x)
        turn = (block[..., None] + np.arange(blocks)) % blocks
        reals = np.exp(_BLOCK * turn + LOWEST + (rest * 2.0**-_POINT)[..., None])
        for table in powers.tables:
            own = np.where((reals >= table.least) & (reals < table.most), reals, 0.0)
            deal(party, p, np.rint(own * 2.0**table.dealt).astype(np.uint64), shape, 64)
        yield
        return [Pair(role, p, nothing(x.shape, 64), Format(64, table.made)) for table in powers.tables]
    late = [deal(party, p, None, shape, 64) for _ in powers.tables]
    yield
    rest, block = _cut(x)
    found = []
    for half, table in zip(late, powers.tables, strict=True):
        picked = np.take_along_axis(taken(half), block[..., None], axis=-1)[..., 0]
        found.append(Pair(role, p, picked * _factor(rest, table.factor), Format(64, table.made)))
    return found


def _cut(x: Split) -> tuple[Words, np.ndarray]:
    """What stands behind the cut, and the block before it."""
    words = reduced(x.words, x.bits)
    by = words.dtype.type(_CUT)
    return words & words.dtype.type((1 << _CUT) - 1), (words >> by).astype(np.int64)


def _factor(rest: Words, fraction: int) -> Words:
    """e^(B' - 4) with so many fraction bits, from exact integers: the same at both twins."""
    place = rest.astype(np.uint64) + np.uint64((16 - _BLOCK) << _POINT)
    return exp_below(place, _PLACES) >> np.uint64(TWIN_FRACTION - fraction)
