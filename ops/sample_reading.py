"""How the scores of a draw are read: in which ring, at which scale, and which rows together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np

from onnxpuma.graph.sampling import NEUTRAL, PARAMETERS
from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Sum3
from onnxpuma.mpc.protocols.argmax import Way, argmax_cost
from onnxpuma.mpc.protocols.convert import replicate_sum_cost
from onnxpuma.mpc.protocols.gumbel import LEAST, MOST
from onnxpuma.ops.comparison import bits_for
from onnxpuma.ops.registry import Use
from onnxpuma.ops.running import running
from onnxpuma.ops.sample_filters import BITS, FRACTION, filtered_cost
from onnxpuma.ops.sample_order import Ordered, drawn_cost
from onnxpuma.ops.sample_steering import Setting, Steering
from onnxpuma.ops.sight import words

FARTHEST = 2.0**12  # two scores of a row lie less than this apart, where no bound says so
_FINER = 12  # bits of 1 / temperature
_ROOM = 4  # times as far, where rows are put in order: what lies further out is found at a wrong place
_MOST_BITS = 41  # of a comparison in two rounds
_DEARER, _SLOWER = 1.25, 1.4  # times the bits, or rounds: rows of several settings are not joined for more


class _Kept(Enum):
    """How the scores that a filter keeps are found."""

    ABOVE = "above a threshold"
    IN_ORDER = "in a secret order"


@dataclass(frozen=True)
class Reading:
    """How the scores are read, where none is ruled out or those below a threshold are."""

    steering: Steering
    fraction: int  # fraction bits of a score
    bits: int  # of the ring in which scores are compared
    factor: int = 0  # where there are filters, 2^factor / temperature multiplies a score first

    @property
    def shift(self) -> int:
        """Where there are filters, the bits that this product loses: FRACTION fraction bits are left."""
        return self.factor + self.fraction - FRACTION if self.steering.any else 0

    @property
    def read(self) -> Format:
        """The format in which scores are exchanged."""
        return Format(self.bits + self.shift, self.fraction)

    @property
    def multipliers(self) -> np.ndarray:
        """(settings, 1)."""
        return np.rint(2.0**self.factor / self.steering.temperatures).astype(np.int64)


@dataclass(frozen=True)
class Part:
    """Rows of a call from which is drawn at once."""

    rows: tuple[int, ...] | None  # None: all
    count: int
    how: Reading | Ordered


# ---- what a call says ---------------------------------------------------------------------------------


def settings(call: Use) -> tuple[Setting, ...]:
    """That of all rows, or of each: a top-k as large as the row rules out nothing."""
    given, length = call.public(1), call.given(0).shape[-1]
    assert given is not None
    found = []
    for values in np.asarray(given, np.float64).reshape(-1, len(NEUTRAL)).tolist():
        temperature, top_k, top_p, min_p = values[: len(PARAMETERS)]
        found.append(Setting(temperature, 0 if top_k >= length else int(top_k), min(top_p, 1.0), min_p))
    return tuple(found)


def beside_of(call: Use, rows: tuple[int, ...] | None) -> np.ndarray | None:
    """(rows, n): the public numbers beside the scores of these rows."""
    x = call.given(0)
    if x.beside is None:
        return None
    whole = np.broadcast_to(x.beside, x.shape).reshape(-1, x.shape[-1])
    return whole if rows is None else whole[list(rows)]


def slack(call: Use, steering: Steering) -> float:
    """A score this far below another, for public reasons, is ruled out."""
    return _apart(call) + steering.highest * (MOST - LEAST) + 1


def _apart(call: Use) -> float:
    """Two scores of a row differ by no more, without the numbers beside them."""
    x = words(call.given(0))
    return min(x.high - x.low, FARTHEST)


def _with_beside(call: Use, rows: tuple[int, ...] | None, steering: Steering) -> float:
    """Two scores of a row that may win differ by no more, with the numbers beside them."""
    beside, apart = beside_of(call, rows), _apart(call)
    if beside is not None:
        apart += float(-running(beside, slack(call, steering)).relative.min(initial=0.0))
    return apart


# ---- which rows are read how --------------------------------------------------------------------------


@lru_cache(maxsize=64)
def parts(call: Use) -> tuple[Part, ...]:
    """All rows, in as few parts as filters and bits allow. One does not `hold` if its setting is refused."""
    given, count = settings(call), _rows(call)
    if len(set(given)) == 1:
        return (_part(call, None, given[:1]),)
    alone = {setting: _part(call, (0,), [setting]) for setting in set(given)}
    groups: dict[object, list[int]] = {}
    for row in range(count):
        setting = given[row * len(given) // count]
        kept = (setting.top_k.bit_length() + 1) // 2  # at most four times as many in one part
        key = type(alone[setting].how), setting.filters, setting.warmth, kept
        groups.setdefault(key, []).append(row)
    found: list[Part] = []
    for rows in groups.values():
        steered = [given[row * len(given) // count] for row in rows]
        one = _part(call, tuple(rows), steered)
        apart = [_part(call, tuple(same), [setting]) for setting, same in _equal(rows, steered)]
        both = _cost(call, one), _side_by_side(call, apart)
        cheap = both[0].bits <= _DEARER * both[1].bits and both[0].rounds <= _SLOWER * both[1].rounds
        found += [one] if cheap and holds(call, one.how) else apart
    return tuple(found)


def _equal(rows: Iterable[int], steered: Iterable[Setting]) -> list[tuple[Setting, list[int]]]:
    """The rows of each setting."""
    found: dict[Setting, list[int]] = {}
    for row, setting in zip(rows, steered, strict=True):
        found.setdefault(setting, []).append(row)
    return list(found.items())


def _rows(call: Use) -> int:
    return call.given(0).size // call.given(0).shape[-1]


def _part(call: Use, rows: tuple[int, ...] | None, steered: tuple[Setting, ...] | list[Setting]) -> Part:
    """These rows, read in the fastest of the ways for which their words have the bits."""
    steering, count = Steering.of(steered), _rows(call) if rows is None else len(rows)
    above = Part(rows, count, _above(call, rows, steering))
    if not steering.top_k:
        return above
    apart = _with_beside(call, rows, steering)
    length = call.given(0).shape[-1]
    ordered = Part(rows, count, Ordered(steering, length, apart if apart < FARTHEST else _ROOM * apart))
    if not holds(call, above.how) or not holds(call, ordered.how):
        return ordered if holds(call, ordered.how) else above
    ways = {_Kept.ABOVE.value: _drawing(call, above), _Kept.IN_ORDER.value: _drawing(call, ordered)}
    return ordered if call.network.fastest(ways) == _Kept.IN_ORDER.value else above


def _above(call: Use, rows: tuple[int, ...] | None, steering: Steering) -> Reading:
    x, apart = call.given(0), _with_beside(call, rows, steering)
    fraction = FRACTION + max(0, math.ceil(-math.log2(steering.lowest or 1.0)))
    if steering.any:
        bits = max(BITS, bits_for(apart / 2 / steering.lowest, FRACTION))
        factor = max(0, _FINER + math.ceil(math.log2(steering.highest)))
        return Reading(steering, max(FRACTION, min(fraction, x.fraction)), bits, factor)
    largest = apart / 2 + steering.highest * max(MOST, -LEAST)
    return Reading(steering, min(fraction, x.fraction), bits_for(largest, fraction))


def holds(call: Use, how: Reading | Ordered) -> bool:
    """Whether the words of the scores hold what is read of them, and comparisons what is made of it."""
    x = call.given(0)
    if isinstance(how, Reading) and how.steering.any and how.bits > _MOST_BITS:
        return False
    if how.fraction > x.fraction or (isinstance(how, Ordered) and how.word > RESTING.bits):
        return False
    return how.read.bits <= x.format.bits - (x.fraction - how.fraction)


# ---- what that costs ----------------------------------------------------------------------------------


def cost(call: Use) -> Cost:
    """Of all parts, side by side."""
    return _side_by_side(call, parts(call))


def _side_by_side(call: Use, several: Iterable[Part]) -> Cost:
    total = FREE
    for part in several:
        total |= _cost(call, part)
    return total


def _cost(call: Use, part: Part) -> Cost:
    x = call.given(0)
    read = replicate_sum_cost(part.count * x.shape[-1], part.how.read.bits) if x.form is Sum3 else FREE
    return read + _drawing(call, part)


def _drawing(call: Use, part: Part) -> Cost:
    how, total = part.how, FREE
    if isinstance(how, Ordered):
        return drawn_cost(part.count, how, call.network)
    length, bits = call.given(0).shape[-1], how.bits
    if how.steering.any:
        total = filtered_cost(part.count, length, bits, how.steering, call.network)
        bits = BITS
    return total + argmax_cost(part.count, length, bits, way(call, part.count, bits))


def way(call: Use, rows: int, bits: int) -> Way:
    """The fastest way to the largest of so many rows."""
    length = call.given(0).shape[-1]
    ways = {each.value: argmax_cost(rows, length, bits, each) for each in Way}
    return Way(call.network.fastest(ways))
