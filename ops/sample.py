"""Sample: a draw from the softmax of each row, a secret integer, of which no party knows anything.

Not an ONNX operator: graph/next_token.py puts it behind the logits of a model that generates. The noise that
decides is drawn on shares (mpc/protocols/gumbel.py), so a draw costs what ArgMax costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np

from onnxpuma.graph.sampling import DOMAIN, PARAMETERS, SAMPLE
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.argmax import Way, argmax, argmax_cost
from onnxpuma.mpc.protocols.convert import replicate_sum, replicate_sum_cost, settle
from onnxpuma.mpc.protocols.gumbel import LEAST, MOST, MOST_SCALE, gumbel
from onnxpuma.ops.comparison import bits_for
from onnxpuma.ops.limits import Arrays, Limit, asks
from onnxpuma.ops.registry import Call, Result, Use, operator
from onnxpuma.ops.running import contenders, running
from onnxpuma.ops.sample_filters import BITS, FRACTION, Filters, filtered, filtered_cost
from onnxpuma.ops.sample_order import Ordered, drawn, drawn_cost
from onnxpuma.ops.sight import words
from onnxpuma.ops.tournament import as_rows

LEAST_TEMPERATURE = 0.01
_FINER = 12  # bits of 1 / temperature
_FARTHEST = 2.0**12  # two scores of a row lie less than this apart, where no bound says so
_ROOM = 4  # times as far, where rows are put in order: what lies further out is found at a wrong place


class _Kept(Enum):
    """How the scores that a filter keeps are found."""

    ABOVE = "above a threshold"
    IN_ORDER = "in a secret order"


@dataclass(frozen=True)
class _Reading:
    """How the scores are read, where none is ruled out or those below a threshold are."""

    temperature: float  # 0: the largest
    filters: Filters
    fraction: int  # fraction bits of a score
    bits: int  # of the ring in which scores are compared
    factor: int  # where there are filters, 2^factor / temperature multiplies a score first

    @property
    def read(self) -> Format:
        """The format in which scores are exchanged."""
        return Format(self.bits + self.factor, self.fraction)

    @property
    def multiplier(self) -> int:
        return round(2.0**self.factor / self.temperature)


def parameters(call: Use) -> tuple[float, Filters]:
    """The temperature and the filters of a call."""
    given = call.public(1)
    assert given is not None
    values = [float(v) for v in np.asarray(given, np.float64).reshape(-1)]
    temperature, top_k, top_p, min_p = values[: len(PARAMETERS)]
    return temperature, Filters(int(top_k), min(top_p, 1.0), min_p)


def _beside(call: Use) -> np.ndarray | None:
    """(rows, n): the public numbers beside the scores."""
    x = call.given(0)
    return None if x.beside is None else np.broadcast_to(x.beside, x.shape).reshape(-1, x.shape[-1])


def _apart(call: Use) -> float:
    """Two scores of a row differ by no more, without the numbers beside them."""
    x = words(call.given(0))
    return min(x.high - x.low, _FARTHEST)


@lru_cache(maxsize=16)
def _reading(call: Use) -> _Reading | Ordered:
    """The fastest of those for which the words of the scores have the bits; one of them if none has."""
    x, (temperature, filters) = call.given(0), parameters(call)
    length = x.shape[-1]
    above = _above(call)
    if not temperature or not 0 < filters.top_k < length:
        return above
    apart = _with_beside(call)
    ordered = Ordered(temperature, filters, length, apart if apart < _FARTHEST else _ROOM * apart)
    if not _holds(call, above) or not _holds(call, ordered):
        return ordered if _holds(call, ordered) else above
    rows = x.size // length
    ways = {
        _Kept.ABOVE.value: _above_cost(call, above),
        _Kept.IN_ORDER.value: drawn_cost(rows, ordered, call.network),
    }
    return ordered if call.network.fastest(ways) == _Kept.IN_ORDER.value else above


def _with_beside(call: Use) -> float:
    """Two scores of a row that may win differ by no more, with the numbers beside them."""
    beside, apart = _beside(call), _apart(call)
    if beside is not None:
        apart += float(-running(beside, _slack(call)).relative.min(initial=0.0))
    return apart


def _above(call: Use) -> _Reading:
    x, (temperature, filters) = call.given(0), parameters(call)
    apart = _with_beside(call)
    if temperature and filters.any:
        bits = max(BITS, bits_for(apart / 2 / temperature, FRACTION))
        factor = max(0, _FINER + math.ceil(math.log2(temperature)))
        return _Reading(temperature, filters, FRACTION, bits, factor)
    fraction = FRACTION + max(0, math.ceil(-math.log2(temperature or 1.0)))
    largest = apart / 2 + temperature * max(MOST, -LEAST)
    return _Reading(temperature, Filters(), min(fraction, x.fraction), bits_for(largest, fraction), 0)


def _slack(call: Use) -> float:
    """A score this far below another, for public reasons, is ruled out."""
    return _apart(call) + parameters(call)[0] * (MOST - LEAST) + 1


def _holds(call: Use, how: _Reading | Ordered) -> bool:
    """Whether the words of the scores hold what is read of them, and comparisons what is made of it."""
    x = call.given(0)
    if not isinstance(how, Ordered) and how.filters.any and how.bits > _MOST_BITS:
        return False
    if how.fraction > x.fraction or (isinstance(how, Ordered) and how.word > RESTING.bits):
        return False
    return how.read.bits <= x.format.bits - (x.fraction - how.fraction)


def _fits(call: Use) -> bool:
    return _holds(call, _reading(call))


def _defers(call: Use, index: int) -> bool:
    return index == 0 and not call.given(0).reach and call.public(1) is not None and _fits(call)


def _way(call: Use, bits: int) -> Way:
    x = call.given(0)
    length = x.shape[-1]
    ways = {way.value: argmax_cost(x.size // length, length, bits, way) for way in Way}
    return Way(call.network.fastest(ways))


def _cost(call: Call) -> Cost:
    x, how = call.given(0), _reading(call)
    total = replicate_sum_cost(x.size, how.read.bits) if x.form is Sum3 else Cost()
    if isinstance(how, Ordered):
        return total + drawn_cost(x.size // x.shape[-1], how, call.network)
    return total + _above_cost(call, how)


def _above_cost(call: Use, how: _Reading) -> Cost:
    x, total = call.given(0), Cost()
    length = x.shape[-1]
    rows, bits = x.size // length, how.bits
    if how.filters.any:
        total, bits = total + filtered_cost(rows, length, bits, how.filters, call.network), BITS
    return total + argmax_cost(rows, length, bits, _way(call, bits))


def _refuse(call: Call) -> str | None:
    x = call.given(0)
    if not x.size:
        return "it draws from nothing"
    if x.reach:
        return "a secret mask may put scores far out"
    if call.public(1) is None:
        return "its parameters are secret"
    temperature, filters = parameters(call)
    good = not temperature or LEAST_TEMPERATURE <= temperature <= MOST_SCALE
    if not good or filters.top_k < 0 or not filters.top_p > 0 or not 0 <= filters.min_p <= 1:
        return "its parameters are beyond their ranges"
    if not _fits(call):
        return f"words of {x.format.bits} bits do not hold its scores at this temperature"
    beside = _beside(call)
    if beside is not None and not running(beside, _slack(call)).kept.any(axis=-1).all():
        return "no score is left"
    return None


_MOST_BITS = 41  # of a comparison in two rounds


def _measured(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x = np.asarray(inputs[0], np.float64)
    return np.ptp(x, axis=-1) if x.size else np.zeros(0)


def _limits(call: Call) -> tuple[Limit, ...]:
    def stays(call: Call) -> float:
        x = words(call.given(0))
        return x.high - x.low

    return (
        Limit(
            "the difference of two of a row",
            _measured,
            _FARTHEST,
            stays=stays,
            needs=asks("spread", _FARTHEST),
        ),
    )


@operator(
    SAMPLE,
    domain=DOMAIN,
    cost=_cost,
    result=lambda call: Result(Replicated, call.at(0)),
    defers=_defers,
    refuse=_refuse,
    limits=_limits,
    beside=lambda call: [None],
    secret="first",
    narrow=True,
)
def sample(party: Party, call: Call, x: Shares, parameters: np.ndarray) -> Protocol[Sequence[Form]]:
    """The index drawn from each row (..., n): (...,)."""
    how, shape, beside = _reading(call), call.outputs[0].shape, _beside(call)
    narrow = x.lowered(x.fraction - how.fraction).modulo(how.read.bits)
    if isinstance(narrow, Sum3):
        narrow = yield from settle(party, replicate_sum(party, narrow))
    rows = as_rows(narrow, (len(x.shape) - 1,), x.shape[-1])
    found = None if beside is None else running(beside, _slack(call))
    out = None if found is None else ~found.kept
    if isinstance(how, Ordered):
        rows = rows if found is None else rows.plus_numbers(found.relative)
        return [(yield from drawn(party, rows, out, how, call.network)).reshape(shape)]
    if how.filters.any:
        rows = rows.times_integers(how.multiplier, how.factor)
        rows = rows.lowered(how.factor).modulo(how.bits)
        rows = rows if found is None else rows.plus_numbers(found.relative / how.temperature)
        rows = yield from filtered(party, rows, out, how.filters, call.network)
        if out is not None:
            rows = contenders(rows, np.where(out, -np.inf, 0.0), 1.0)
    else:
        if how.temperature:
            rows = rows + gumbel(party, rows.shape, how.temperature, rows.format)
        rows = contenders(rows, beside, _slack(call))
    places = yield from argmax(party, rows, _way(call, rows.bits))
    return [places.reshape(shape)]
