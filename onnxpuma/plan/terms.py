"""Activations that stay as terms for the product that reads them: the gate of a gated layer.

A value that one product alone reads need not become Replicated first: the product reads the terms that the
twins have (ops/term_factor.py), and becomes Replicated itself, in fewer rounds. All formats are settled
before. The product needs a proved bound, and its other factor the bits of the product.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial

from onnxpuma.mpc.cost import FREE, Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.protocols.pivots import slices
from onnxpuma.ops.activation import RAMPS, format_of_terms
from onnxpuma.ops.registry import Operand, altered
from onnxpuma.ops.term_factor import formats_of_other, has_room
from onnxpuma.plan.formats import holding, is_plain, staying
from onnxpuma.plan.known.decisions import Changed, Decisions, Steps
from onnxpuma.plan.known.state import State
from onnxpuma.plan.plan import Step
from onnxpuma.plan.refits import resting_at, with_values


def with_terms(state: State, decisions: Decisions | None = None) -> None:
    """Let products of the planned steps read activations as terms where the network is faster so.

    decisions: those of the last plan of this graph, selection and network, and then of this one.
    """
    decisions, kept = decisions or Decisions(), staying(state)
    readers = decisions.begin(state.steps, frozenset(kept))
    makers = {name: number for number, step in enumerate(state.steps) for name in step.outputs}
    alone = {name for name, found in readers.items() if len(found) == 1 and name not in kept}
    for number, step in enumerate(state.steps):
        name = step.call.outputs[0].name
        if step.operator.name not in RAMPS or step.constant or name not in alone:
            continue
        reads = partial(_changed, state.network, number, readers[name][0], makers, alone)
        changed = decisions.changed(("terms", number), state.steps, reads)
        for n, new in (changed or {}).items():
            state.steps[n] = new


def _changed(
    network: Network,
    number: int,
    product: int,
    makers: Mapping[str, int],
    alone: Container[str],
    steps: Steps,
) -> Changed | None:
    """The activation and its reader, where that is a product that pays for reading terms; and the step that
    makes the other factor, where that had better rest in the ring of the product.

    makers: of each value. alone: the values that one step reads, and nobody else.
    """
    maker, reader = steps[number], steps[product]
    made, format = maker.call.outputs[0], format_of_terms(maker.call)
    if format is None or maker.resolves[0] or not is_plain(made):
        return None
    other = _other_factor(reader, made)
    if other is None:
        return None
    left = altered(made, form=Sum3, format=format)
    maker = with_values(maker, maker.call.inputs, [left])
    ways = [{number: maker, product: _reading(reader, left, other)}]
    source = makers.get(other.name)
    if source is not None and other.name in alone:
        ways += [
            {number: maker, source: new, product: _reading(reader, left, new.left[other.name])}
            for new in _resting(steps[source], other, formats_of_other(ways[0][product].call))
        ]
    costs: dict[int | None, Cost] = {None: steps[number].cost + reader.cost}
    for way, changed in enumerate(ways):
        if has_room(changed[product].call):
            more = Cost(0, changed[source].cost.bits - steps[source].cost.bits) if source in changed else FREE
            costs[way] = maker.cost + changed[product].cost + more
    # One pivot leads a small value, and sends nearly all that it costs.
    sent = 3 // len(slices(made.size))
    best = network.fastest({way: Cost(cost.rounds, sent * cost.bits) for way, cost in costs.items()})
    return None if best is None else ways[best]


def _resting(step: Step, operand: Operand, formats: Sequence[Format]) -> list[Step]:
    """The step with a result that it truncates to each of these formats, if its bound allows that."""
    place = step.outputs.index(operand.name)
    if step.constant or not step.resolves[place]:
        return []
    return [
        resting_at(step, place, format)
        for format in formats
        if format != operand.resting and holding(operand, format) == format
    ]


def _reading(step: Step, x: Operand, y: Operand) -> Step:
    """A product that reads x as terms, and y."""
    inputs = [x if o is not None and o.name == x.name else y for o in step.call.inputs]
    made = step.call.outputs[0]
    return with_values(step, inputs, [altered(made, form=Replicated, format=made.resting)])


def _other_factor(step: Step, x: Operand) -> Operand | None:
    """What a step multiplies x by: another secret value at rest, of its shape. None if it does not, or leaves
    the product to its reader."""
    if step.operator.name != "Mul" or not step.resolves[0] or step.call.outputs[0].form is not Sum3:
        return None
    found = [o for o in step.call.inputs if o is not None and o.name != x.name]
    if len(found) != 1 or not found[0].secret or found[0].shape != x.shape:
        return None
    return found[0] if is_plain(found[0]) and not found[0].deferred else None
