"""Which values of a run are watched: those whose bounds do not prove that their readers compute correctly.

For each limit of a step that is not proved, the needs that would prove it are watched. The client checks its
own inputs before it shares them; for all other values bounds/checks.py adds steps. Once watched, a need
counts as true for the rest of the plan: if it does not hold in a run, the verdict of that run says so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.bounds import Bound, Need
from onnxpuma.ops.faint import needs_beside_faint
from onnxpuma.ops.range_reading import row_length
from onnxpuma.ops.registry import Call, Operand, Operator
from onnxpuma.plan.bounds.beside_masks import beside_masks
from onnxpuma.plan.bounds.limits import limits_in
from onnxpuma.plan.bounds.ranges import bounded
from onnxpuma.plan.inputs.spec import LARGEST_KEPT
from onnxpuma.plan.known.state import State
from onnxpuma.plan.weights.facts import KEPT_ROOM


def watched(state: State, call: Call, operator: Operator) -> Call:
    """Watch the unproved needs of a call's limits. Returns the call with bounds that assume them."""
    if not state.blueprint.checked:
        return call
    for limit in limits_in(call, operator):
        if not limit.proved(call):
            before = call
            for need in limit.needs(call):
                call = _watched(state, call, _as_far(call, need) if operator.reaches else need)
            if call is not before:
                call = bounded(state.blueprint, call, operator)
    for need in (*beside_masks(call, operator), *needs_beside_faint(call)):
        call = _watched(state, call, need)
    return call


def _as_far(call: Call, need: Need) -> Need:
    """The need, widened by the reach of a secret mask in the operand, since the operator reads that far."""
    operand = call.operand(need.place)
    more = 0.0 if operand is None else operand.up if need.kind == "below" else operand.reach
    return replace(need, below=need.below + 1.01 * more) if need.kind in ("element", "below") else need


def watch_kept(state: State) -> None:
    """Watch that each kept output stays within the bound that later requests assume of it."""
    for name in state.selection.kept if state.blueprint.checked else ():
        operand = state.values[name].operand if name in state.values else None
        if operand is None or operand.dtype.kind != "f":
            continue
        said = Bound(-LARGEST_KEPT, LARGEST_KEPT)
        if name in state.blueprint.known_bounds:
            said = state.blueprint.known_bounds[name].times(KEPT_ROOM)
        for need in _within(said.size, said.norm):
            if not proved(operand, need):
                state.watched.add(operand, need)


@lru_cache(maxsize=1024)
def _within(size: float, norm: float) -> tuple[Need, ...]:
    """The needs of a kept value whose elements and rows are no larger."""
    room = 1 + 2.0**-20
    rows = [Need(0, "row", norm * room)] if norm < math.inf else []
    return Need(0, "element", size * room), *rows


def _watched(state: State, call: Call, need: Need) -> Call:
    operand = call.operand(need.place)
    if operand is None or not operand.secret or operand.form is SecretIds:
        return call
    if need.kind == "quotient":
        both = operand, call.given(need.place + 1)
        open_one = not all(o.weight for o in both)
        if open_one and all(o.secret and o.form is Replicated and o.format == o.resting for o in both):
            state.watched.add(operand, need, both[1])
        return call
    if operand.weight:
        return call
    if operand.dtype.kind != "f" or proved(operand, need):
        return call
    state.watched.add(operand, need)
    # From here on every reader of the value sees the narrower bound, not only this call.
    assumed = replace(operand, bound=_assumed(operand, need))
    known = state.values.get(operand.name)
    if known is not None and known.operand is not None:
        state.values[operand.name] = replace(known, operand=assumed)
    return replace(call, inputs=tuple(assumed if o is operand else o for o in call.inputs))


def proved(operand: Operand, need: Need) -> bool:
    """Whether the bound of an operand proves a need."""
    bound = operand.bound
    if need.kind == "below":
        return bound.high < need.below
    if need.kind in ("positive", "nonzero"):
        return bound.low >= need.below or (need.kind == "nonzero" and bound.high <= -need.below)
    if need.kind == "element":
        return bound.size < need.below
    if need.kind == "spread" and bound.high - bound.low < need.below:
        return True
    length = row_length(operand, need)
    longest = bound.length(length) if need.axes == (-1,) else bound.size * math.sqrt(length)
    more = math.sqrt(2.0) if need.kind == "spread" else 1.0 if need.around is None else 2.0
    return longest * more < need.below


def _assumed(operand: Operand, need: Need) -> Bound:
    """The bound of an operand for which the need holds."""
    bound, below = operand.bound, need.below
    if need.kind == "below":
        return replace(bound, high=min(bound.high, below))
    if need.kind == "positive":
        return replace(bound, low=max(bound.low, below))
    if need.kind in ("spread", "deviation", "nonzero") or need.around is not None:
        return bound
    within = replace(bound, low=max(bound.low, -below), high=min(bound.high, below))
    if need.kind == "row" and need.axes == (-1,):
        if need.count:
            blocks = {**bound.blocks, need.count: min(below, bound.blocks.get(need.count, below))}
            return replace(within, blocks=blocks)
        within = replace(within, norm=min(bound.norm, below))
    return within
