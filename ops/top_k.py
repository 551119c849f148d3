"""The k largest or smallest of a row, in order, by a sorting network of exact comparisons.

Each value is scaled up and its place subtracted, so that no two are equal and the earlier of two equal values
comes first, as the standard demands. Batcher's odd-even merge sort (Knuth, volume 3, 5.3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import WHOLE
from onnxpuma.mpc.forms import Form, Replicated, joined, see, zeros
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.ops.beside import Beside, kept
from onnxpuma.ops.comparison import FURTHEST, WIDE, compared, width
from onnxpuma.ops.limits import Limit, input_below
from onnxpuma.ops.reach import secretly_far
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.running import Running, rows_beside, running
from onnxpuma.ops.tournament import as_rows, duels, duels_cost

LONGEST = 1 << 16


@lru_cache(maxsize=64)
def network(length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The levels of the sort: places i < j are compared, and the larger value goes to i."""
    levels = []
    merged = 1
    while merged < length:
        step = merged
        while step:
            pairs = [
                (place, place + step)
                for start in range(step % merged, length - step, 2 * step)
                for place in range(start, min(start + step, length - step))
                if place // (2 * merged) == (place + step) // (2 * merged)
            ]
            if pairs:
                first, second = np.array(pairs).T
                levels.append((first, second))
            step //= 2
        merged *= 2
    return levels


def _sign(call: Call) -> float:
    """1 for the largest, -1 for the smallest."""
    return 1.0 if call.attribute("largest") else -1.0


def _room(length: int) -> int:
    """Bits for a place below each value."""
    return max(1, (length - 1).bit_length())


def _cost(call: Call) -> Cost:
    length = call.given(0).shape[call.axis]
    rows, total = call.given(0).size // length, Cost()
    for first, _ in network(length):
        total = total + duels_cost(rows * len(first), _bits(call))
    return total + over_parts(
        call.outputs[0].size, lambda n: lift_cost(n, call.ring - _room(length), call.ring)
    )


def _refuse(call: Call) -> str | None:
    if call.secret(1):
        return "its k is secret: it decides the shape"
    if call.given(0).shape[call.axis] > LONGEST:
        return f"its rows are longer than {LONGEST}"
    beside = _rows_beside(call)
    if beside is not None:
        found = _in_play(call, beside)
        shown = np.sort(np.where(found.kept, np.inf, beside), axis=-1)[:, : call.outputs[0].shape[call.axis]]
        if any(len(set(row[np.isfinite(row) | (row < 0)])) > 1 for row in shown):
            return "its result may include places masked by different numbers: mask all of them by one number"
    return secretly_far(call, furthest_in(call.given(0).shape[call.axis]) * 1.5)


def furthest_in(length: int) -> float:
    """How far out a secret mask may put an element of a row to be sorted."""
    return 2.0 ** (40 - _room(length))


def _bits(call: Call) -> int:
    """Bits of a comparison of values with a place below each."""
    return min(WIDE, width(call) + _room(call.given(0).shape[call.axis]))


def _rows_beside(call: Call) -> np.ndarray | None:
    """The numbers beside the rows, (rows, n), negated for the smallest."""
    return rows_beside(call, (call.axis,), _sign(call))


def _in_play(call: Call, beside: np.ndarray) -> Running:
    return running(beside, 2.0 ** (41 - _room(beside.shape[1])))


def _limits(call: Call) -> tuple[Limit, ...]:
    room = _room(call.given(0).shape[call.axis])
    if width(call) + room < WIDE:
        return input_below(compared(call)[0].below)(call)
    return input_below(FURTHEST / 2.0**room)(call)


def _beside(call: Call) -> Beside:
    """The numbers beside the shown elements: the row's top for those in the running, then the mask's."""
    beside, shape, axis = _rows_beside(call), call.outputs[0].shape, call.axis
    if beside is None:
        return [None, None]
    found, shown = _in_play(call, beside), shape[axis]
    masked = np.sort(np.where(found.kept, np.inf, beside), axis=-1)[:, :1]
    after = np.arange(shown) >= found.kept.sum(axis=-1, keepdims=True)
    rows = np.where(after, masked, found.top) * (_sign(call))
    moved = tuple(n for a, n in enumerate(shape) if a != axis)
    return [kept(np.moveaxis(rows.reshape(*moved, shown), -1, axis), shape), None]


def _entered(call: Call, values: Replicated) -> Replicated:
    """The rows to be sorted: a publicly masked element lies below all others."""
    beside = _rows_beside(call)
    if beside is None:
        return values
    found = _in_play(call, beside)
    lowest = -(2.0 ** (43 - _room(beside.shape[1])))
    seen = values.zeroed(~found.kept | found.drowned)
    return seen.plus_numbers(np.where(found.kept, found.relative, lowest))


@operator(
    "TopK", cost=_cost, refuse=_refuse, limits=_limits, secret="first",
    integers=True, beside=_beside, reaches=True,
)  # fmt: skip
def top_k(party: Party, call: Call, x: Replicated, k: Value) -> Protocol[Sequence[Form]]:
    """The k largest (or smallest) along an axis and where they stand; |x| < 2^43 / n for rows of n."""
    axis, length = call.axis, call.given(0).shape[call.axis]
    largest, room = _sign(call) > 0, _room(length)
    values = _entered(call, as_rows(x if largest else -x, (axis,), length))
    numbers = np.broadcast_to(np.arange(length), values.shape)
    places = zeros(party.index, values.shape, WHOLE).plus_numbers(numbers)
    keys = values.times_integers(1 << room).with_fraction(0).plus_numbers(-numbers)
    for first, second in network(length):
        a, b, i, j = keys[:, first], keys[:, second], places[:, first], places[:, second]
        won, shift = yield from duels(party, a - b, i - j, True, _bits(call))
        larger, place = won + b, shift + j
        both = slice(None), np.concatenate([first, second])
        keys = keys.placed(both, joined([larger, a + b - larger], axis=1))
        places = places.placed(both, joined([place, i + j - place], axis=1))
    back = _layout(call)
    found = back((keys + places).with_fraction(x.fraction + room))
    result = yield from spread(party, found, lambda part, pivot: _unscaled(party, part, pivot, room))
    beside = _rows_beside(call)
    if beside is not None:  # a masked element is shown as the number beside it
        number = _in_play(call, beside).kept.sum(axis=-1, keepdims=True)
        result = result.zeroed(back(np.arange(length) >= number))
    return [result if largest else -result, back(places)]


def _layout(call: Call) -> Callable[[Any], Any]:
    """(rows, n), of an array or of a form, to the output's shape."""
    shape, axis = call.outputs[0].shape, call.axis
    order = list(range(len(shape) - 1))
    moved = [shape[a] for a in range(len(shape)) if a != axis]
    order.insert(axis, len(moved))
    return lambda rows: rows[:, : shape[axis]].reshape(*moved, shape[axis]).transpose(order)


def _unscaled(party: Party, x: Replicated, pivot: int, room: int) -> Protocol[Replicated]:
    """x / 2^room for a multiple x of 2^room: exact on two terms, as it would not be on three."""
    return (yield from lift(party, see(party, x, pivot).lowered(room), x.bits))
