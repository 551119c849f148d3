"""exp over the whole range of the format, with a relative error: a table of powers of e, one message.

A clamp holds x between -20 and 29.8, where e^x reaches 2^43. A and B are cut above the lowest two bits before
the point: the parts below the cut add up to less than eight, and e^(A' + B') factors. The pivot deals e^A'
e^(4n) for every n that the twins may hold, and they pick by theirs (docs/protocols.md, "exp"). Large powers
have a separate table with fewer fraction bits, because no word holds both with all digits. exp_softmax.py
costs a fraction of this and is correct only on a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext
from functools import lru_cache

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Pair, Replicated, Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, parallel, taken
from onnxpuma.mpc.protocols.clamp import clamped, clamped_cost
from onnxpuma.mpc.protocols.convert import deal, deal_cost, pass_on, pass_on_cost
from onnxpuma.mpc.protocols.powers import power
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.arrays import constants, indices, nothing
from onnxpuma.mpc.ring.words import WIDEST, Words, from_integers, reduced, word

MOST = RESTING.largest / 2  # the largest power
LOWEST, HIGHEST = -20, float(Decimal(MOST).ln()) - 0.005  # the clamp holds the argument between them
_POINT = RESTING.fraction  # of the argument and of the result; the tables below are made for it
_CARRIER = WIDEST  # bits of the ring in which the pivot deals powers
_BLOCK = 4  # units: the parts of A and B below the cut add up to less than two of them, so x' starts at one
_CUT = _POINT + 2
_MOST_BLOCKS = 16  # entries of a table
_MANTISSA = 34  # fraction bits of e^A'


@dataclass(frozen=True)
class Table:
    """The powers from `least` to below `most`."""

    least: float
    most: float
    dealt: int  # fraction bits that the pivot deals
    factor: int  # fraction bits of the twins' factor

    @property
    def made(self) -> Format:
        """The format of the product."""
        return Format(_CARRIER, self.dealt + self.factor)

    @property
    def width(self) -> int:
        """Bits that the product keeps at the argument's scale."""
        return self.made.lowered(self.made.fraction - _POINT).bits


# A word holds only so many digits: small powers keep those after the point, large ones those before it.
SMALL = Table(0.0, 2.0**20, 18, 24)
LARGE = Table(2.0**20, math.inf, -3, 22)
_ALL = (Table(0.0, 2.0**40, 18, 24),)


@dataclass(frozen=True)
class Powers:
    """The powers that the pivot deals for arguments below `top`."""

    top: float
    blocks: int  # entries of a table
    tables: tuple[Table, ...]

    @property
    def bits(self) -> int:
        """Bits of the argument's ring."""
        return _CUT + (self.blocks - 1).bit_length()

    @property
    def ends(self) -> tuple[int, int | None]:
        """The words between which the clamp holds the argument; no upper one where `top` is below HIGHEST."""
        low = LOWEST << _POINT
        return low, (math.floor(HIGHEST * 2**_POINT) if self.top >= HIGHEST else None)


def powers_below(top: float = math.inf) -> Powers:
    """The cheapest for arguments below `top`."""
    if top < 7.9:
        return Powers(top, 8, _ALL)
    return Powers(top, _MOST_BLOCKS, _ALL if top < 13.8 else (SMALL, LARGE))


def exponential(
    party: Party, x: Replicated, pivot: int, top: float = math.inf, bits: int = RESTING.bits
) -> Protocol[Replicated]:
    """e^x of any x in the format RESTING, Replicated in it.

    Relative error below 2e-5 (about 2^-19 on average), and two units; from HIGHEST on the result stays just
    below MOST. Conditions: x < top; |x| at least 64 units below half of 2^bits, mod which the protocol reads
    x. Masks: those of `clamped` and `pass_on`, F_{p+2} on the tables.
    Rounds: 7, 6 for a few bits; bits: `exponential_cost`.
    """
    powers = powers_below(top)
    low, high = powers.ends
    # 1. x between the ends, counted from one block below the lower one
    pair = yield from clamped(party, see(party, x.modulo(bits), pivot), low, high, powers.bits)
    held = pass_on(party, pair.plus(from_integers(_BLOCK << _POINT, powers.bits)))
    # 2. the next pivot deals the powers; each table's part returns to the full ring
    made = yield from _picked(party, held, powers)
    parts = yield from parallel(
        lift(party, pass_on(party, part.lowered(part.fraction - _POINT)), x.bits) for part in made
    )
    total, *more = parts
    for other in more:
        total = total + other
    return total


def exponential_cost(elements: int, top: float = math.inf, bits: int = RESTING.bits) -> Cost:
    powers = powers_below(top)
    held = clamped_cost(elements, bits, powers.bits, both=powers.ends[1] is not None)
    dealt = deal_cost(len(powers.tables) * powers.blocks * elements, _CARRIER)
    back = Cost()
    for table in powers.tables:
        back |= pass_on_cost(elements, table.width) | lift_cost(elements, table.width, RESTING.bits)
    return held + (pass_on_cost(elements, powers.bits) | dealt) + back


def _picked(party: Party, x: Split, powers: Powers) -> Protocol[list[Pair]]:
    """Split(p) of x' = x - LOWEST + 4 to Pair(p) of e^x, the sum of one for each table."""
    p, role, blocks = x.pivot, party.role(x.pivot), powers.blocks
    shape = (*x.shape, blocks)
    if role == PIVOT:
        rest, block = _cut(x)
        turn = (block[..., None] + indices(blocks)) % blocks
        for table in powers.tables:
            deal(party, p, _dealt(rest[..., None], turn, table), shape, _CARRIER)
        yield
        return [Pair(role, p, nothing(x.shape, _CARRIER), table.made) for table in powers.tables]
    late = [deal(party, p, None, shape, _CARRIER) for _ in powers.tables]
    yield
    rest, block = _cut(x)
    found = []
    for half, table in zip(late, powers.tables, strict=True):
        picked = np.take_along_axis(taken(half), block[..., None], axis=-1)[..., 0]
        found.append(Pair(role, p, picked * _factor(rest, table.factor), table.made))
    return found


def _cut(x: Split) -> tuple[Words, np.ndarray]:
    """The part below the cut, and the block above it."""
    words = reduced(x.words, x.bits)
    by = words.dtype.type(_CUT)
    return words & words.dtype.type((1 << _CUT) - 1), (words >> by).astype(np.int64)


def _dealt(rest: Words, turn: np.ndarray, table: Table) -> Words:
    """e^(A' + 4 turn + LOWEST) with the fraction bits of the table; zero of what it does not hold."""
    mantissas, shifts = _blocks(table.dealt)
    product = power(rest, _CUT, _POINT, 0, _MANTISSA) * mantissas[turn]
    found = ((product >> (shifts[turn] - word(1, WIDEST))) + word(1, WIDEST)) >> word(1, WIDEST)
    place = (turn << _CUT) + rest.astype(np.int64)
    return np.where((place >= _place(table.least)) & (place < _place(table.most)), found, word(0, WIDEST))


def _place(least: float) -> int:
    """The first argument, counted from LOWEST, whose power is at least `least`."""
    if least == 0.0:
        return 0
    exact = Decimal(least).ln() - LOWEST if least < math.inf else Decimal(1 << 20)
    return int((exact * (1 << _POINT)).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=8)
def _blocks(dealt: int) -> tuple[Words, Words]:
    """e^(4 turn + LOWEST) for each turn, as m 2^(s - _MANTISSA - dealt) with a word m of 24 bits, and s.

    s is at least 1: a power too large for that exceeds every table.
    """
    mantissas, shifts = [], []
    with localcontext() as context:
        context.prec = 40
        for turn in range(_MOST_BLOCKS):
            exact = Decimal(_BLOCK * turn + LOWEST).exp()
            s = 24 - int((exact.ln() / Decimal(2).ln()).to_integral_value(ROUND_CEILING))
            mantissas.append(int((exact * Decimal(2) ** s).to_integral_value()))
            shifts.append(max(1, _MANTISSA + s - dealt))
    return constants(mantissas, WIDEST), constants(shifts, WIDEST)


def _factor(rest: Words, fraction: int) -> Words:
    """e^(B' - 4) with `fraction` bits, by exact integers: the same at both twins."""
    return power(rest, _CUT, _POINT, -_BLOCK, fraction)
