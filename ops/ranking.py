"""The largest or smallest of a row, and where it stands: tournaments of exact comparisons.

A row of n elements takes log2(n) levels, at each of which neighbours play.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Pair, Replicated, see
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import pass_on, pass_on_cost
from onnxpuma.mpc.protocols.gate import gate, gate_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.ops.beside import Beside, kept, too_far
from onnxpuma.ops.reach import secretly_far
from onnxpuma.ops.reduce import axes_of, count_of, not_empty
from onnxpuma.ops.registry import Call, Result, Value, operator, resting_fraction
from onnxpuma.ops.running import contenders, rows_beside
from onnxpuma.ops.select import WIDE, compared, positive, positive_cost, width
from onnxpuma.ops.spread import joined, over_parts, parts, sliced
from onnxpuma.ops.window import padded_patches
from onnxpuma.standard.mask_values import OUT


def row_largest(party: Party, rows: Replicated, bits: int = WIDE) -> Protocol[Replicated]:
    """The largest of each row, (rows, n) -> (rows,)."""
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        left, right = _every_other(rows, 0, half), _every_other(rows, 1, half)
        won = yield from positive(party, left - right, bits)
        rows = _with_last(party, won + right, rows)
    return rows.map(lambda w: w[:, 0])


def row_largest_cost(rows: int, length: int, bits: int = WIDE) -> Cost:
    total = Cost()
    while length > 1:
        total = total + positive_cost(rows * (length // 2), bits)
        length -= length // 2
    return total


def as_rows(x: Replicated, axes: tuple[int, ...], count: int) -> Replicated:
    """The reduced axes last and flat: (rows, count)."""
    kept = [a for a in range(len(x.shape)) if a not in axes]
    return x.map(lambda w: np.ascontiguousarray(w.transpose(*kept, *axes)).reshape(-1, count))


def _reduced_cost(call: Call) -> Cost:
    return row_largest_cost(call.outputs[0].size, count_of(call), width(call))


def _resting(call: Call) -> Result:
    return Result(Replicated, resting_fraction(call.outputs[0].dtype))


def _sign(call: Call) -> float:
    return -1.0 if call.node.op == "ReduceMin" else 1.0


def _beside_extreme(call: Call) -> Beside:
    rows = rows_beside(call, axes_of(call), _sign(call))
    if rows is None:
        return [None]
    return [kept((_sign(call) * rows.max(axis=-1)).reshape(call.outputs[0].shape), call.outputs[0].shape)]


@operator(
    "ReduceMax", "ReduceMin",
    cost=_reduced_cost, result=_resting, refuse=not_empty, limits=compared, secret="first",
    integers=True, beside=_beside_extreme, reaches=True,
)  # fmt: skip
def reduce_extreme(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The largest or smallest over axes."""
    rows, shape = as_rows(x, axes_of(call), count_of(call)), call.outputs[0].shape
    largest = call.node.op == "ReduceMax"
    entered = contenders(rows if largest else -rows, rows_beside(call, axes_of(call), _sign(call)))
    found = yield from row_largest(party, entered, width(call))  # type: ignore[arg-type]
    return [(found if largest else -found).map(lambda w: w.reshape(shape))]


def _whole_cost(call: Call) -> Cost:
    rows = call.outputs[0].size
    return row_largest_cost(rows, call.given(0).size // max(rows, 1), width(call))


def _beside_whole(call: Call) -> Beside:
    rows = rows_beside(call, range(2, len(call.given(0).shape)))
    return [
        None
        if rows is None
        else kept(rows.max(axis=-1).reshape(call.outputs[0].shape), call.outputs[0].shape)
    ]


@operator(
    "GlobalMaxPool",
    cost=_whole_cost,
    result=_resting,
    limits=compared,
    integers=True,
    beside=_beside_whole,
    reaches=True,
)
def global_max_pool(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The largest over all spatial axes."""
    shape = call.outputs[0].shape
    rows = x.map(lambda w: w.reshape(shape[0] * shape[1], -1))
    entered = contenders(rows, rows_beside(call, range(2, len(call.given(0).shape))))
    found = yield from row_largest(party, entered, width(call))  # type: ignore[arg-type]
    return [found.map(lambda w: w.reshape(shape))]


def _area(call: Call) -> int:
    """Elements of a window."""
    return int(np.prod(call.attribute("kernel_shape")))


def windows_of(party: Party, call: Call, x: Replicated, filler: int) -> Replicated:
    """(outputs, kernel) of a pooling; the public filler word stands in the padding."""
    area = _area(call)

    def rows(words: np.ndarray, component: int) -> np.ndarray:
        found = padded_patches(call, words, filler if component == 0 else 0)
        return np.ascontiguousarray(found).reshape(-1, area)

    first, second = rows(x.first, party.index), rows(x.second, (party.index + 1) % 3)
    return Replicated(party.index, first, second, Format(64, x.fraction))


def _pool_cost(call: Call) -> Cost:
    rows, area = call.outputs[0].size, _area(call)
    return places_cost(rows, area) if _shows_places(call) else row_largest_cost(rows, area, width(call))


def _shows_places(call: Call) -> bool:
    return len(call.outputs) > 1 and bool(call.outputs[1].name)


def _window_places(call: Call) -> np.ndarray:
    """(outputs, kernel): where each element of a window stands, counted by rows or by columns."""
    shape = call.given(0).shape
    numbers = np.arange(call.given(0).size)
    if call.attribute("storage_order"):
        columns = numbers.reshape(*shape[:2], *shape[:1:-1])
        numbers = np.ascontiguousarray(columns.transpose(0, 1, *range(len(shape) - 1, 1, -1)))
    found = padded_patches(call, numbers.reshape(shape), 0)
    return np.ascontiguousarray(found).reshape(-1, _area(call)).astype(np.uint64)


def _windows_beside(call: Call) -> np.ndarray | None:
    """(outputs, kernel): what stands beside the elements of each window, none in the padding."""
    beside = call.given(0).beside
    if beside is None:
        return None
    found = padded_patches(call, beside, -np.inf)
    return np.ascontiguousarray(found).reshape(-1, _area(call))


def _beside_windows(call: Call) -> Beside:
    windows, shape = _windows_beside(call), call.outputs[0].shape
    first = None if windows is None else kept(windows.max(axis=-1).reshape(shape), shape)
    return [first, *([None] * (len(call.outputs) - 1))]


def _pool_refusal(call: Call) -> str | None:
    if not _shows_places(call):
        return None
    return too_far(call, OUT) or secretly_far(call, OUT)


@operator(
    "MaxPool",
    cost=_pool_cost,
    result=_resting,
    refuse=_pool_refusal,
    limits=compared,
    integers=True,
    beside=_beside_windows,
    reaches=True,
)
def max_pool(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The largest of each window, and where it stands."""
    shape, bits = call.outputs[0].shape, width(call)
    windows = windows_of(party, call, x, -(1 << (bits - 3)))  # below every value
    if not _shows_places(call):
        entered = contenders(windows, _windows_beside(call))
        found = yield from row_largest(party, entered, bits)  # type: ignore[arg-type]
        return [found.map(lambda w: w.reshape(shape))]
    both = yield from row_places(party, windows, _window_places(call), True)
    return [found.map(lambda w: w.reshape(shape)) for found in both]


def _duel(
    party: Party, lead: Replicated, places: Replicated, pivot: int, first_wins: bool, bits: int
) -> Protocol[tuple[Replicated, Replicated]]:
    """(max(lead, 0), places where the left one wins, else 0); equal ones: the left one if `first_wins`."""
    seen, where = see(party, lead.modulo(bits), pivot), see(party, places.modulo(bits), pivot)
    if first_wins:
        bit = ~(yield from wide_negative(party, seen))
    else:
        bit = yield from wide_negative(party, see(party, (-lead).modulo(bits), pivot))
    pairs: list[Pair] = yield from parallel([gate(party, bit, seen), gate(party, bit, where)])
    both = yield from parallel(lift(party, pass_on(party, pair), 64) for pair in pairs)
    return both[0], both[1]


def _duel_cost(elements: int, bits: int) -> Cost:
    back = pass_on_cost(elements, bits) | lift_cost(elements, bits, 64)
    prize = gate_cost(elements, bits) + back
    return wide_negative_cost(elements, bits) + (prize | prize)


def duels(
    party: Party, lead: Replicated, places: Replicated, first_wins: bool, bits: int = WIDE
) -> Protocol[tuple[Replicated, Replicated]]:
    """`_duel` over the three pivots, any shape."""
    shape = lead.shape
    flat = [v.map(lambda w: np.ascontiguousarray(w).reshape(-1)) for v in (lead, places)]
    if len(parts(lead.size)) == 1:
        done = [(yield from _duel(party, flat[0], flat[1], party.next_pivot(), first_wins, bits))]
    else:
        pieces = []
        for pivot, piece in enumerate(thirds(lead.size)):
            a, b = (sliced(v, piece) for v in flat)
            assert isinstance(a, Replicated)
            assert isinstance(b, Replicated)
            pieces.append(_duel(party, a, b, pivot, first_wins, bits))
        done = yield from parallel(pieces)
    return joined([d[0] for d in done], shape), joined([d[1] for d in done], shape)


def duels_cost(elements: int, bits: int = WIDE) -> Cost:
    return over_parts(elements, lambda n: _duel_cost(n, bits))


def places_cost(rows: int, length: int) -> Cost:
    total = Cost()
    while length > 1:
        total = total + duels_cost(rows * (length // 2))
        length -= length // 2
    return total


def row_places(
    party: Party, values: Replicated, numbers: np.ndarray, first_wins: bool
) -> Protocol[tuple[Replicated, Replicated]]:
    """The largest of each row of (rows, n), and the number that stands at its place."""
    places = values.map(np.zeros_like).with_fraction(0).plus(numbers)
    while values.shape[1] > 1:  # neighbours play, so that the left one is always the earlier one
        half = values.shape[1] // 2
        a, i = (_every_other(v, 0, half) for v in (values, places))
        b, j = (_every_other(v, 1, half) for v in (values, places))
        won, shift = yield from duels(party, a - b, i - j, first_wins)
        values = _with_last(party, won + b, values)
        places = _with_last(party, shift + j, places)
    return values.map(lambda w: w[:, 0]), places.map(lambda w: w[:, 0])


def _every_other(x: Replicated, start: int, count: int) -> Replicated:
    return x.map(lambda w: w[:, start : 2 * count : 2])


def _with_last(party: Party, winners: Replicated, before: Replicated) -> Replicated:
    """The winners, and after them the one that had nobody to play."""
    if before.shape[1] % 2 == 0:
        return winners
    first = np.concatenate([winners.first, before.first[:, -1:]], axis=1)
    second = np.concatenate([winners.second, before.second[:, -1:]], axis=1)
    return Replicated(party.index, first, second, winners.format)
