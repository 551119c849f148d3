"""ScatterND and ScatterElements: updates put into data, or combined with it, at public indices.

Where several updates go to one place they are taken one after the other, as the standard has it: first the
first of every place, side by side, then the second of those that have one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.beside import Beside, in_words, of_put, too_far, whole
from onnxpuma.ops.layout import as_shares, beyond
from onnxpuma.ops.limits import Limit, inputs_below, output_below
from onnxpuma.ops.merge import numbered, picked, resting
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.select import larger, positive_cost, smaller
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
    """For each update, flat, the flat place in the data that it goes to."""
    shape, index = call.given(0).shape, call.public(1)
    assert index is not None
    places = np.arange(call.given(0).size).reshape(shape)
    if call.node.op == "ScatterND":
        return places[tuple(np.moveaxis(index, -1, 0))].reshape(-1)
    grid: list[np.ndarray] = list(np.indices(index.shape))
    grid[call.axis] = index
    return places[tuple(grid)].reshape(-1)


def _turns(targets: np.ndarray) -> list[np.ndarray]:
    """The updates of each turn: in none of them do two go to one place."""
    order = np.argsort(targets, kind="stable")
    ranked = targets[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(ranked)])
    turn = np.arange(len(ranked)) - np.repeat(starts, lengths)
    return [order[turn == number] for number in range(int(lengths.max(initial=0)))]


def _cost(call: Call) -> Cost:
    kind, total, fraction = _reduction(call), Cost(), resting(call).fraction
    if kind in ("none", "add"):
        return total
    for turn in _turns(_targets(call)):
        if kind == "mul":
            total = total + shift_cost(len(turn), fraction, RESTING.bits)
        else:
            total = total + positive_cost(len(turn))
    return total


def _limits(call: Call) -> tuple[Limit, ...]:
    kind = _reduction(call)
    if kind in ("none", "add"):
        return ()
    return output_below(2.0**26)(call) if kind == "mul" else inputs_below(2.0**43)(call)


def _added(data: Replicated, updates: Replicated, targets: np.ndarray) -> Replicated:
    def sums(words: np.ndarray, more: np.ndarray) -> np.ndarray:
        flat = np.array(words).reshape(-1)
        np.add.at(flat, targets, more.reshape(-1))
        return flat.reshape(words.shape)

    first, second = sums(data.first, updates.first), sums(data.second, updates.second)
    return Replicated(data.party, first, second, data.format)


def _at(x: Replicated, places: np.ndarray) -> Replicated:
    return x.map(lambda w: w.reshape(-1)[places])


def _with(x: Replicated, places: np.ndarray, new: Replicated) -> Replicated:
    first, second = np.array(x.first).reshape(-1), np.array(x.second).reshape(-1)
    first[places], second[places] = new.first, new.second
    return Replicated(x.party, first.reshape(x.shape), second.reshape(x.shape), x.format)


def _beside(call: Call) -> Beside:
    return of_put(call) if _reduction(call) in ("none", "add") else [None]


@operator(
    "ScatterND", "ScatterElements",
    cost=_cost, result=resting, refuse=_refuse, secret="data, updates", integers=True,
    error="exact; reduction mul: one unit of 2^-18", limits=_limits, beside=_beside,
)  # fmt: skip
def scatter(party: Party, call: Call, *inputs: Value) -> Protocol[Sequence[Form]]:
    """Updates put into data, added to it (local), multiplied with it, or the larger or smaller of the two, at
    public indices."""
    kind, fraction = _reduction(call), resting(call).fraction
    if kind not in ("none", "add"):
        inputs = tuple(whole(value, call.operand(place)) for place, value in enumerate(inputs))
    else:
        inputs = tuple(in_words(value) if place != 1 else value for place, value in enumerate(inputs))
    data, updates = (as_shares(party, inputs[place], fraction=fraction) for place in (0, 2))
    if kind == "none":
        return [picked(party, [data, updates], numbered(call, (0, 2)))]
    targets = _targets(call)
    if kind == "add":
        return [_added(data, updates, targets)]
    for turn in _turns(targets):
        here, more = _at(data, targets[turn]), _at(updates, turn)
        if kind == "mul":
            new = yield from truncated(party, multiply(party, here, more), fraction)
        else:
            new = yield from (larger if kind == "max" else smaller)(party, here, more)
        data = _with(data, targets[turn], new)
    return [data]
