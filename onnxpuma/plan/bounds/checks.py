"""The range check of a run: the steps that compare every watched value with its bound, and their verdict.

A local step computes a quantity of each watched value as soon as the value is computed. The last step
compares all quantities of the run at once, and the client opens the result (ops/range_check.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.format import WHOLE
from onnxpuma.mpc.forms import Sum3
from onnxpuma.ops.range_check import DOMAIN, QUANTITY, VERDICT
from onnxpuma.ops.range_reading import Reading, readings
from onnxpuma.ops.registry import Call, Operand, Operator
from onnxpuma.plan.known.numbering import Numbering
from onnxpuma.plan.known.state import State
from onnxpuma.plan.plan import PlannedOutput, Step

VERDICT_NAME = "onnxpuma: a value out of range"

Asked: TypeAlias = "tuple[tuple[Operand, ...], Reading]"  # a value, with its divisor for quotients


def check_steps(
    state: State, live: Sequence[Step], numbering: Numbering
) -> tuple[list[Step], PlannedOutput | None]:
    """The steps that check the watched values that live steps read, and the output that carries the verdict.

    A need of a client's own input takes no step: it goes into that entry of `state.inputs`, and the client
    checks it in the clear.
    """
    read = set(state.selection.kept).union(*[step.reads for step in live])
    asked: list[Asked] = []
    own = {entry.operand: name for name, entry in state.inputs.items()}
    for need, operand, divisor in state.watched.found.values():
        state.budget.check_time()
        if operand.name not in read or (divisor is not None and divisor.name not in read):
            continue
        if operand.name in own and divisor is None:
            entry = state.inputs[own[operand.name]]
            state.inputs[own[operand.name]] = replace(entry, needs=(*entry.needs, replace(need, place=0)))
            continue
        values = (operand,) if divisor is None else (operand, divisor)
        found = operand.content.once(("readings", need), partial(readings, operand, need))
        asked += [(values, reading) for reading in found]
    if not asked:
        return [], None
    asked = _least(asked)
    state.budget.check_time()
    steps = numbering.checks(
        [(*values, reading) for values, reading in asked], lambda number: _quantity(number, *asked[number])
    )
    state.budget.check_time()
    quantities = [step.call.outputs[0] for step in steps]
    told = Operand(VERDICT_NAME, (1,), np.dtype(np.int64), form=Sum3, format=WHOLE, resting=WHOLE)
    made_of = [reading for _, reading in asked]
    which = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    name = f"of {len(asked)} quantities, {which}"
    steps.append(_step(VERDICT, name, quantities, told, {"readings": made_of}))
    return steps, PlannedOutput(VERDICT_NAME, (1,), told.dtype, WHOLE, secret=True, verdict=True)


def _least(asked: Sequence[Asked]) -> list[Asked]:
    """The readings, without samples of a value for which other samples have the sharper bound."""
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
    whole = first.resting.at(0)
    made = f"{VERDICT_NAME}, {name}"
    quantity = Operand(made, (count,), np.dtype(np.int64), form=form, format=whole, resting=whole)
    return _step(QUANTITY, name, values, quantity, {"reading": reading})


def _step(
    operator: Operator, name: str, inputs: Sequence[Operand], made: Operand, attributes: dict[str, object]
) -> Step:
    read = tuple(operand.name for operand in inputs)
    node = Node(name, operator.name, DOMAIN, 1, read, (made.name,), attributes)  # type: ignore[arg-type]
    call = Call(node, tuple(inputs), 1, (made,))
    return Step(0, operator, call, (made.name,), (False,), False)
