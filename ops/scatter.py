"""ScatterND and ScatterElements: updates put into data, or combined with it, at public indices.

Several updates of one place are applied one after the other, as the standard demands: the first updates of
all places side by side, then the second ones, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, picked
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.beside import Beside, in_words, of_put, too_far, whole
from onnxpuma.ops.layout import beyond
from onnxpuma.ops.limits import Limit, inputs_below, output_in_product
from onnxpuma.ops.merge import numbered
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.select import FURTHEST, larger, positive_cost, smaller
from onnxpuma.ops.shares import as_shares
from onnxpuma.ops.spread import shift_cost, truncated
from onnxpuma.standard.mask_values import FAR


def _reduction(call: Call) -> str:
    return str(call.attribute("reduction"))


def _refuse(call: Call) -> str | None:
    index, shape = call.public(1), call.given(0).shape
    if _reduction(call) not in ("none", "add") and too_far(call, FAR):
        return too_far(call, FAR)
    if index is None:
        return "its indices are secret"
    if call.node.op == "ScatterElements":
        return beyond(index, shape[call.axis])
    return next((r for r in (beyond(index[..., k], shape[k]) for k in range(index.shape[-1])) if r), None)


def _targets(call: Call) -> np.ndarray:
    """For each update, flat, its flat place in the data."""
    shape, index = call.given(0).shape, np.asarray(call.public(1))
    places = np.arange(call.given(0).size).reshape(shape)
    if call.node.op == "ScatterND":
        return places[tuple(np.moveaxis(index, -1, 0))].reshape(-1)
    grid: list[np.ndarray] = list(np.indices(index.shape))
    grid[call.axis] = index
    return places[tuple(grid)].reshape(-1)


def _turns(targets: np.ndarray) -> list[np.ndarray]:
    """The updates of each turn: no two updates of a turn go to the same place."""
    order = np.argsort(targets, kind="stable")
    ranked = targets[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(ranked)])
    turn = np.arange(len(ranked)) - np.repeat(starts, lengths)
    return [order[turn == number] for number in range(int(lengths.max(initial=0)))]


def _cost(call: Call) -> Cost:
    kind, total = _reduction(call), Cost()
    if kind in ("none", "add"):
        return total
    for turn in _turns(_targets(call)):
        if kind == "mul":
            total = total + shift_cost(len(turn), call.outputs[0].resting.fraction, call.ring)
        else:
            total = total + positive_cost(len(turn))
    return total


def _limits(call: Call) -> tuple[Limit, ...]:
    kind = _reduction(call)
    if kind in ("none", "add"):
        return ()
    return output_in_product(call) if kind == "mul" else inputs_below(FURTHEST)(call)


def _beside(call: Call) -> Beside:
    return of_put(call) if _reduction(call) in ("none", "add") else [None]


@operator(
    "ScatterND", "ScatterElements",
    cost=_cost, refuse=_refuse, secret="data, updates", integers=True,
    error="exact; reduction mul: one unit of 2^-18", limits=_limits, beside=_beside,
)  # fmt: skip
def scatter(party: Party, call: Call, *inputs: Value) -> Protocol[Sequence[Form]]:
    """Updates replace the data at public indices, are added to it (both local) or multiplied with it; or the
    larger or smaller of the two stays."""
    kind, format = _reduction(call), call.outputs[0].resting
    if kind not in ("none", "add"):
        inputs = tuple(whole(value, call.operand(place)) for place, value in enumerate(inputs))
    else:
        inputs = tuple(in_words(value) if place != 1 else value for place, value in enumerate(inputs))
    data, updates = (as_shares(party, inputs[place], format) for place in (0, 2))
    if kind == "none":
        return [picked([data, updates], numbered(call, (0, 2)))]
    targets, shape = _targets(call), data.shape
    data, updates = data.flat(), updates.flat()
    if kind == "add":
        return [data.added_at(targets, updates).reshape(shape)]
    for turn in _turns(targets):
        here, more = data[targets[turn]], updates[turn]
        if kind == "mul":
            new = yield from truncated(party, multiply(party, here, more), format)
        else:
            new = yield from (larger if kind == "max" else smaller)(party, here, more)
        data = data.placed(targets[turn], new)
    return [data.reshape(shape)]
