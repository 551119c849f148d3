"""Which values of a run are checked for their range, and the steps that do it.

Where the bounds of a step's operands do not prove that its operator is right, what would prove it is watched:
the client sees to its own inputs before it shares them, all else becomes steps. One, local, makes a quantity
of a value as soon as the value is there; the last compares all quantities of the run at once, and what it
yields is opened to the client (range_check.py). What is watched counts as true from there on: if it is
not, the run says so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.bounds import Bound, Need
from onnxpuma.ops.range_check import DOMAIN, QUANTITY, VERDICT
from onnxpuma.ops.range_reading import Reading, readings, row_length
from onnxpuma.ops.reach import MASK, reach_of
from onnxpuma.ops.registry import FRACTION, Call, Operand, Operator
from onnxpuma.plan.clear import limits_in
from onnxpuma.plan.facts import KEPT_ROOM
from onnxpuma.plan.input_spec import LARGEST_KEPT
from onnxpuma.plan.masks import scores_beside
from onnxpuma.plan.plan import PlannedOutput, Step
from onnxpuma.plan.ranges import bounded

if TYPE_CHECKING:
    from onnxpuma.plan.walk import Walk

_JOINS = ("Add", "Sub", "Sum", "Where", "Concat")
VERDICT_NAME = "onnxpuma: a value out of range"


@dataclass
class Watched:
    """Needs of values, the smallest of each kind, and the value as it was known before."""

    found: dict[tuple[object, ...], tuple[Need, Operand, Operand | None]] = field(default_factory=dict)

    def add(self, operand: Operand, need: Need, divisor: Operand | None = None) -> None:
        by = "" if divisor is None else divisor.name
        key = operand.name, need.kind, need.axes, need.count, need.around, by
        before = self.found.get(key)
        sharper = before is None or need.below < before[0].below
        if before is not None and need.kind in ("positive", "nonzero"):
            sharper = need.below > before[0].below
        if sharper:
            self.found[key] = need, operand if before is None else before[1], divisor


def watched(walk: Walk, call: Call, operator: Operator) -> Call:
    """The call with what may be assumed of its operands, and so of its outputs, once all that its limits need
    and nobody has proved is watched."""
    if not walk.blueprint.checked:
        return call
    for limit in limits_in(call, operator):
        if not limit.proved(call):
            before = call
            for need in limit.needs(call):
                call = _watched(walk, call, _as_far(call, need) if operator.reaches else need)
            if call is not before:
                call = bounded(walk.blueprint, call, operator)
    for need in beside_masks(call, operator):
        call = _watched(walk, call, need)
    return call


def _as_far(call: Call, need: Need) -> Need:
    """Of an operand that a secret mask puts further out, as far as it does: it is read so far."""
    operand = call.operand(need.place)
    more = 0.0 if operand is None else operand.up if need.kind == "below" else operand.reach
    return replace(need, below=need.below + 1.01 * more) if need.kind in ("element", "below") else need


def beside_masks(call: Call, operator: Operator) -> Sequence[Need]:
    """What is asked of scores where a secret mask joins them: behind it those that are masked could not be
    told from those that are out of range."""
    if call.node.op not in _JOINS or not call.outputs or call.outputs[0].enough != MASK:
        return ()
    reach = reach_of(call, operator)
    if not reach.down and not reach.up:
        return ()
    below = scores_beside(reach.down, reach.up)
    places = [p for p, o in enumerate(call.inputs) if o is not None and o.secret and not o.reach]
    return [Need(place, "element", below) for place in places]


def watch_kept(walk: Walk) -> None:
    """What stays at the servers is no larger than later requests, which go on from it, take it to be."""
    for name in walk.selection.kept if walk.blueprint.checked else ():
        operand = walk.values[name].operand if name in walk.values else None
        if operand is None or operand.dtype.kind != "f":
            continue
        said = Bound(-LARGEST_KEPT, LARGEST_KEPT)
        if name in walk.blueprint.known_bounds:
            said = walk.blueprint.known_bounds[name].times(KEPT_ROOM)
        needs = [Need(0, "element", said.size)]
        needs += [Need(0, "row", said.norm)] if said.norm < math.inf else []
        for need in (replace(need, below=need.below * (1 + 2.0**-20)) for need in needs):
            if not proved(operand, need):
                walk.watched.add(operand, need)


def _watched(walk: Walk, call: Call, need: Need) -> Call:
    operand = call.operand(need.place)
    if operand is None or not operand.secret or operand.form is SecretIds:
        return call
    if need.kind == "quotient":
        divisor = call.given(need.place + 1)
        both = (operand, divisor)
        asked = not (operand.weight and divisor.weight)
        if asked and all(o.secret and o.form is Replicated and o.fraction == FRACTION for o in both):
            walk.watched.add(operand, need, divisor)
        return call
    if operand.weight:
        return call
    if operand.dtype.kind != "f" or proved(operand, need):
        return call
    walk.watched.add(operand, need)
    assumed = replace(operand, bound=_assumed(operand, need))
    known = walk.values.get(operand.name)
    if known is not None and known.operand is not None:
        walk.values[operand.name] = replace(known, operand=assumed)
    return replace(call, inputs=tuple(assumed if o is operand else o for o in call.inputs))


def proved(operand: Operand, need: Need) -> bool:
    """Whether the bound of an operand tells that the need holds."""
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
    """What is known of an operand of which the need holds."""
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


def check_steps(walk: Walk, live: Sequence[Step]) -> tuple[list[Step], PlannedOutput | None]:
    """The steps that check what is watched of the values that live ones read, and the output that tells; what
    is a client's own input goes into `walk.inputs` instead."""
    read = {operand.name for step in live for operand in step.call.inputs if operand is not None}
    read.update(walk.selection.kept)
    asked: list[Asked] = []
    own = {entry.operand: name for name, entry in walk.inputs.items()}
    for need, operand, divisor in walk.watched.found.values():
        if operand.name not in read or (divisor is not None and divisor.name not in read):
            continue
        if operand.name in own and divisor is None:
            entry = walk.inputs[own[operand.name]]
            walk.inputs[own[operand.name]] = replace(entry, needs=(*entry.needs, replace(need, place=0)))
            continue
        values = (operand,) if divisor is None else (operand, divisor)
        asked += [(values, reading) for reading in readings(operand, need)]
    if not asked:
        return [], None
    asked = _least(asked)
    steps = [_quantity(number, values, reading) for number, (values, reading) in enumerate(asked)]
    quantities = [step.call.outputs[0] for step in steps]
    told = Operand(VERDICT_NAME, (1,), np.dtype(np.int64), form=Sum3, fraction=0)
    made_of = [reading for _, reading in asked]
    which = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    name = f"of {len(asked)} quantities, {which}"
    steps.append(_step(VERDICT, name, quantities, told, {"readings": made_of}))
    return steps, PlannedOutput(VERDICT_NAME, (1,), told.dtype, secret=True, verdict=True)


Asked: TypeAlias = "tuple[tuple[Operand, ...], Reading]"


def _least(asked: Sequence[Asked]) -> list[Asked]:
    """Of the samples that are taken of one value those that tell most."""
    least: dict[tuple[object, ...], Asked] = {}
    for number, (values, reading) in enumerate(asked):
        key: tuple[object, ...] = (number,)
        if reading.method == "samples":
            key = (values[0].name, reading.block)
        before = least.get(key)
        if before is None or reading.reach(values[0]) < before[1].reach(values[0]):
            least[key] = values, reading
    return list(least.values())


def _quantity(number: int, values: tuple[Operand, ...], reading: Reading) -> Step:
    first = values[0]
    name = f"{number}: {reading.method} of {first.name}"
    form = first.form if reading.method in ("elements", "quotients") else Sum3
    count = reading.count(first)
    if len(values) > 1:
        count = 2 * math.prod(np.broadcast_shapes(*(value.shape for value in values)))
    made = Operand(f"{VERDICT_NAME}, {name}", (count,), np.dtype(np.int64), form=form, fraction=0)
    return _step(QUANTITY, name, values, made, {"reading": reading})


def _step(
    operator: Operator, name: str, inputs: Sequence[Operand], made: Operand, attributes: dict[str, object]
) -> Step:
    read = tuple(operand.name for operand in inputs)
    node = Node(name, operator.name, DOMAIN, 1, read, (made.name,), attributes)  # type: ignore[arg-type]
    call = Call(node, tuple(inputs), (made,), 1)
    return Step(0, operator, call, (made.name,), (False,), False)
