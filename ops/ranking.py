"""The largest or smallest along axes and in windows: ReduceMax, ReduceMin, GlobalMaxPool, MaxPool."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.beside import Beside, kept, too_far
from onnxpuma.ops.comparison import compared, width
from onnxpuma.ops.reach import secretly_far
from onnxpuma.ops.reduce import axes_of, count_of, not_empty
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.running import contenders, rows_beside
from onnxpuma.ops.tournament import as_rows, places_cost, row_largest, row_largest_cost, row_places
from onnxpuma.ops.window import public_windows_of, windows_of
from onnxpuma.standard.mask_values import OUT


def _reduced_cost(call: Call) -> Cost:
    return row_largest_cost(call.outputs[0].size, count_of(call), width(call))


def _sign(call: Call) -> float:
    return -1.0 if call.node.op == "ReduceMin" else 1.0


def _beside_extreme(call: Call) -> Beside:
    rows = rows_beside(call, axes_of(call), _sign(call))
    if rows is None:
        return [None]
    return [kept((_sign(call) * rows.max(axis=-1)).reshape(call.outputs[0].shape), call.outputs[0].shape)]


@operator(
    "ReduceMax", "ReduceMin",
    cost=_reduced_cost, refuse=not_empty, limits=compared, secret="first",
    integers=True, beside=_beside_extreme, reaches=True,
)  # fmt: skip
def reduce_extreme(party: Party, call: Call, x: Replicated, axes: Value = None) -> Protocol[Sequence[Form]]:
    """The largest or smallest over axes."""
    rows, shape = as_rows(x, axes_of(call), count_of(call)), call.outputs[0].shape
    largest = call.node.op == "ReduceMax"
    entered = contenders(rows if largest else -rows, rows_beside(call, axes_of(call), _sign(call)))
    found = yield from row_largest(party, entered, width(call))
    return [(found if largest else -found).reshape(shape)]


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
    limits=compared,
    integers=True,
    beside=_beside_whole,
    reaches=True,
)
def global_max_pool(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The largest over all spatial axes."""
    shape = call.outputs[0].shape
    rows = x.reshape(shape[0] * shape[1], -1)
    entered = contenders(rows, rows_beside(call, range(2, len(call.given(0).shape))))
    found = yield from row_largest(party, entered, width(call))
    return [found.reshape(shape)]


def _pool_cost(call: Call) -> Cost:
    rows, area = call.outputs[0].size, math.prod(call.attribute("kernel_shape"))
    return places_cost(rows, area) if _shows_places(call) else row_largest_cost(rows, area, width(call))


def _shows_places(call: Call) -> bool:
    return len(call.outputs) > 1 and bool(call.outputs[1].name)


def _window_places(call: Call) -> np.ndarray:
    """(outputs, kernel): the place of each element of a window, counted along rows or columns."""
    shape = call.given(0).shape
    numbers = np.arange(call.given(0).size)
    if call.attribute("storage_order"):
        columns = numbers.reshape(*shape[:2], *shape[:1:-1])
        numbers = np.ascontiguousarray(columns.transpose(0, 1, *range(len(shape) - 1, 1, -1)))
    return public_windows_of(call, numbers.reshape(shape))


def _windows_beside(call: Call) -> np.ndarray | None:
    """(outputs, kernel): the numbers beside the elements of each window, minus infinity in the padding."""
    beside = call.given(0).beside
    return None if beside is None else public_windows_of(call, beside, -np.inf)


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
    refuse=_pool_refusal,
    limits=compared,
    integers=True,
    beside=_beside_windows,
    reaches=True,
)
def max_pool(party: Party, call: Call, x: Replicated) -> Protocol[Sequence[Form]]:
    """The largest of each window, and where it stands."""
    shape, bits = call.outputs[0].shape, width(call)
    windows = windows_of(call, x, -(2.0 ** (bits - 3 - x.fraction)))  # below every value
    if not _shows_places(call):
        entered = contenders(windows, _windows_beside(call))
        found = yield from row_largest(party, entered, bits)
        return [found.reshape(shape)]
    both = yield from row_places(party, windows, _window_places(call), True)
    return [found.reshape(shape) for found in both]
