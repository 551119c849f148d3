"""The two operators of the range check: the quantities of one value, and the verdict on all values.

They are not ONNX operators: the planner adds them to the steps of a model (plan/bounds/checks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import WHOLE
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3, joined, stacked
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.range_check import (
    OPPOSITE,
    OUTSIDE,
    any_of,
    any_of_cost,
    beyond,
    beyond_cost,
    coins,
    less_mean,
    row_deviations,
    row_squares,
    samples,
)
from onnxpuma.ops.range_reading import Reading
from onnxpuma.ops.registry import Call, Kernel, Operator, Result
from onnxpuma.ops.shares import replicated
from onnxpuma.standard.signature import declare

F = TypeVar("F", bound=Form)
DOMAIN = "onnxpuma.check"


def filled(flat: F, block: int) -> F:
    """(n,) as (n / block, block), with zeros at the end where they are needed."""
    missing = -flat.size % block
    return (flat.pad([(0, missing)]) if missing else flat).reshape(-1, block)


def arranged(x: F, reading: Reading) -> F:
    """The rows (rows, block) of a value; zeros fill up the last one."""
    around, rank = reading.around, len(x.shape)
    if around is not None:
        x = x.map(lambda w: less_mean(w, around))
    axes = [axis for axis in reading.axes if -axis <= rank]
    if axes and axes != list(range(-len(axes), 0)):
        x = x.moveaxis(sorted(axes), range(-len(axes), 0))
    return filled(x.flat(), reading.block)


def _quotients(x: Replicated, y: Replicated, reading: Reading) -> Replicated:
    """below y - x and below y + x of each element, side by side: their signs agree where |x| < below |y|."""
    most = y.times_integers(reading.below)
    both = stacked([most - x, most + x], axis=-1)
    return both.reshape(-1).lowered(reading.shift)


def quantity(party: Party, call: Call, x: Shares, y: Replicated | None = None) -> Protocol[Sequence[Form]]:
    """The quantities of a value, (count,): local."""
    yield from ()
    reading: Reading = call.attribute("reading")
    if y is not None:
        return [_quotients(replicated(x), y, reading)]
    rows = arranged(x, reading)
    if reading.method == "elements":
        return [rows.lowered(reading.shift).reshape(-1)]
    if reading.method == "squares":
        return [row_squares(party, replicated(rows), reading.shift)]
    if reading.method == "deviations":
        return [row_deviations(party, replicated(rows), reading.shift)]
    if reading.method == "apart":
        several = reading.block * reading.rows
        rows = filled(rows.map(lambda w: less_mean(w, 1)).reshape(-1), several)
    whole, stream = reading.method != "samples", coins(party, call.node.name)
    return [samples(party, rows, reading.shift, stream, whole, reading.samples)]


def _parts(call: Call) -> list[tuple[int, Reading, type, list[int]]]:
    """The inputs that are compared together: their pivot, their reading, their form and their places."""
    found: dict[tuple[int, int, str, type], list[int]] = {}
    asked: Sequence[Reading] = call.attribute("readings")
    for place, reading in enumerate(asked):
        alike = reading.bits, reading.below, reading.side, call.given(place).form
        found.setdefault(alike, []).append(place)
    groups = [(asked[places[0]], form, places) for (*_, form), places in found.items()]
    return [(number % 3, *group) for number, group in enumerate(groups)]


def verdict(party: Party, call: Call, *quantities: Shares) -> Protocol[Sequence[Form]]:
    """Zero if every quantity is within its reading, else random, (1,) mod 2^64."""
    compared = []
    for pivot, reading, _, places in _parts(call):
        together = joined([quantities[place].with_fraction(0) for place in places])
        compared.append(beyond(party, together, reading.below, reading.side, pivot))
    bits = [bit for found in (yield from parallel(compared)) for bit in found]
    for bit in bits:
        bit.shape = (1, bit.size)
    return [(yield from any_of(party, bits, coins(party, call.node.name)))]


def _verdict_cost(call: Call) -> Cost:
    total, counts = Cost(), [0, 0, 0]
    for pivot, reading, form, places in _parts(call):
        size = sum(call.given(place).size for place in places)
        total |= beyond_cost(size, reading.side, reading.bits, form)
        counts[pivot] += size * 2 if reading.side == OUTSIDE else size // (1 + (reading.side == OPPOSITE))
    return total + any_of_cost(counts)


def _quantity_result(call: Call) -> Result:
    one_by_one = call.attribute("reading").method in ("elements", "quotients")
    return Result(call.given(0).form if one_by_one else Sum3, call.at(0))


def _operator(
    name: str, kernel: Kernel, cost: Callable[[Call], Cost], result: Callable[[Call], Result]
) -> Operator:
    return Operator(
        name=name,
        kernel=kernel,
        cost=cost,
        result=result,
        defers=lambda call, index: True,
        integers=True,
        beside=lambda call: [None] * len(call.outputs),
        reaches=True,
    )


declare(DOMAIN, "RangeOf", reading=None)
declare(DOMAIN, "RangeCheck", readings=())
QUANTITY = _operator("RangeOf", quantity, lambda call: Cost(), _quantity_result)
VERDICT = _operator("RangeCheck", verdict, _verdict_cost, lambda call: Result(Sum3, WHOLE))
