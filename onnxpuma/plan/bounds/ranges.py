"""Bounds carried through the plan: of inputs, of the outputs of each step, and how far its kernel reads.

Every party that plans finds the same bounds, from the facts that the owner states about the weights
(plan/weights/facts.py). A bound holds as long as every step before it stayed in its range;
plan/examine/proofs.py lists the steps of which that is proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from onnxpuma.graph.model import Node, ValueType
from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.intervals import INTERVALS, TRUTH
from onnxpuma.ops.lengths import LENGTHS, argument, norm_of_rows, spread_of_scores
from onnxpuma.ops.moves import MOVES
from onnxpuma.ops.products import PRODUCTS
from onnxpuma.ops.registry import Call, Operand, Operator, Use, altered
from onnxpuma.ops.sight import near_numbers
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.spec import LARGEST_KEPT, largest_input
from onnxpuma.plan.known.values import Known, draft_operand
from onnxpuma.plan.plan import SecretInput
from onnxpuma.plan.weights.facts import KEPT_ROOM

UNIT = RESTING.unit
WHOLE = 2.0**40  # without a smaller known bound, an activation reads all that a form can hold
WIDEST = 16.0  # times its default: a larger bound is probably loose, so the range check covers it
_AT_CLIENT = ("Add", "Sub", "Mul", "Div", "Neg", "Cast", "Clip", "Relu", "Abs", "Where", "ReduceMean", "Tanh")

_Use = TypeVar("_Use", bound=Use)


# -- inputs -----------------------------------------------------------------------------------------


def entered(
    blueprint: Blueprint, entry: SecretInput, operand: Operand, held: bool = False, made: Bound = UNKNOWN
) -> Operand:
    """An input with its bound: the client checks it, or the run that kept the value did (`held`).

    Integers take the whole word. made: the bound of a value that the client computes (`at_client`).
    """
    if operand.dtype.kind == "b":
        return altered(operand, bound=TRUTH)
    if not operand.size:
        return altered(operand, bound=Bound(0.0, 0.0))
    if operand.dtype.kind != "f":
        return altered(operand, bound=Bound(-largest_input(operand.format), largest_input(operand.format)))
    declared, largest = blueprint.declared.get(entry.name), largest_input(entry.format)
    if held:
        declared, largest = None, LARGEST_KEPT
        if entry.name in blueprint.known_bounds:
            return altered(operand, bound=blueprint.known_bounds[entry.name].times(KEPT_ROOM))
    low, high = declared or (-max(largest, entry.reach), largest)
    return altered(operand, bound=Bound(max(low, made.low), min(high, made.high)))


def at_client(
    blueprint: Blueprint, values: Mapping[str, Known], node: Node, types: Sequence[ValueType]
) -> list[Bound]:
    """The bounds of values that a client computes: they follow from the declared ranges of its inputs."""
    rule = MOVES.get(node.op) or (INTERVALS.get(node.op) if node.op in _AT_CLIENT else None)
    if not blueprint.declared or rule is None or node.domain or any(t.dtype.kind != "f" for t in types):
        return [UNKNOWN] * len(types)
    inputs = tuple(None if n is None else _at_client(blueprint, values, n) for n in node.inputs)
    outputs = tuple(
        draft_operand(n, kind, blueprint.resting) for n, kind in zip(node.outputs, types, strict=True)
    )
    found = rule(Call(node, inputs, blueprint.graph.opset, outputs))
    if math.isnan(found.low) or math.isnan(found.high):
        found = UNKNOWN
    return [Bound(found.low, found.high).around(UNIT, 1)] * len(types)


def _at_client(blueprint: Blueprint, values: Mapping[str, Known], name: str) -> Operand:
    known = values[name]
    operand = altered(draft_operand(name, known.type, blueprint.resting), value=known.value)
    declared = blueprint.declared.get(name)
    bound = (
        TRUTH if operand.dtype.kind == "b" else Bound(declared[0], declared[1]) if declared else known.bound
    )
    return altered(operand, bound=bound)


# -- outputs ----------------------------------------------------------------------------------------


def bounded(blueprint: Blueprint, call: Call, operator: Operator) -> Call:
    """The call with bounds of its outputs. If they depend on weights alone, the owner measured them."""
    facts = blueprint.known_bounds if all(o.weight for o in call.secrets) else {}
    found = zip(call.outputs, _bounds(call, operator), strict=False)
    return altered(call, outputs=tuple(altered(o, bound=facts.get(o.name, b)) for o, b in found))


def _bounds(call: Call, operator: Operator) -> list[Bound]:
    name = call.node.op if not call.node.domain else ""
    if name in LENGTHS:
        found = list(LENGTHS[name](call))
    elif name in MOVES or name in PRODUCTS or name in INTERVALS:
        found = [(MOVES.get(name) or PRODUCTS.get(name) or INTERVALS[name])(call)]
    else:
        found = []
    several = operator.moves or not found
    rest = found[0] if several and found else UNKNOWN
    found += [rest] * (len(call.outputs) - len(found))
    return [_rounded(call, operator, o, b) for o, b in zip(call.outputs, found, strict=False)]


def _rounded(call: Call, operator: Operator, output: Operand, bound: Bound) -> Bound:
    """The bound with room for the operator's error, and for the zeros that public numbers beside it leave."""
    if output.dtype.kind == "b":
        return TRUTH
    if math.isnan(bound.low) or math.isnan(bound.high):
        return UNKNOWN
    if output.beside is not None and not operator.moves:
        bound = Bound(min(bound.low, 0.0), max(bound.high, 0.0), bound.norm, bound.blocks)
    op, moved = call.node.op, operator.moves or output.dtype.kind != "f"
    encoded = any(o is not None and o.value is not None and o.dtype.kind == "f" for o in call.inputs)
    count = max(1, output.shape[-1] if output.shape else 1)
    known = call.node.traits
    if moved or known.chooses or (op == "Attention" and output is not call.outputs[0]):
        return bound.around(UNIT / 2, count) if encoded and known.chooses else bound
    error = UNIT if known.rounded else operator.error_of(call)
    if known.sums or op == "Neg":
        error = UNIT / 2 if encoded else 0.0
    return bound.around(error, count)


# -- how far a kernel reads -------------------------------------------------------------------------


QUANTITIES: dict[str, tuple[str, Callable[[Use], float], float]] = {
    **dict.fromkeys(("Gelu", "Erf"), ("argument", argument, WHOLE)),
    **dict.fromkeys(("Tanh", "Sigmoid"), ("argument", argument, WHOLE)),
    **dict.fromkeys(("Softplus", "Mish", "Swish"), ("argument", argument, WHOLE)),
    **dict.fromkeys(("Softmax", "Attention"), ("spread", spread_of_scores, 1024.0)),
    **dict.fromkeys(("LogSoftmax", "ReduceLogSumExp"), ("spread", spread_of_scores, 1024.0)),
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"),
        ("norm", norm_of_rows, 2.0**20),
    ),
    "Relu": ("argument", argument, WHOLE),
}
"""Operator -> the quantity that its kernel reads (`Limit.key`), how bounds prove it, and the default."""


def ranged(blueprint: Blueprint, use: _Use) -> _Use:
    """The use with its kernel's range: as the bounds prove, or as calibration found where that is less.

    The operator's default stands where neither is known, and where the proved bound is too large to be
    likely.
    """
    calibrated = blueprint.bounds(use.node.name)
    entry = QUANTITIES.get(use.node.op) if not use.node.domain else None
    if entry is None:
        return altered(use, bounds=calibrated)
    key, quantity, usual = entry
    proved = _with_room(key, quantity(use), use)
    most = calibrated.get(key, usual * WIDEST if key == "spread" else usual)
    return altered(use, bounds={**calibrated, key: proved} if proved <= most else calibrated)


def _with_room(key: str, quantity: float, use: Use) -> float:
    if key != "norm" and any(o.reach for o in use.secrets):
        return math.inf
    if key == "spread" and near_numbers(use.operand(use.node.traits.scores or 0)):
        quantity *= 4 / 3
    return max(quantity * (1 + 2.0**-8) + (2.5 if key == "spread" else 2.0**-8), 2.0**-8)
