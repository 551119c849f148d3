"""Bounds carried through the plan: of what a step makes, and how far its kernel has to read.

Everybody who plans finds the same, from what the owner says of the weights (plan/facts.py). A bound holds as
long as every step before it stayed in its range; plan/proofs.py lists those that are known to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.intervals import INTERVALS, TRUTH
from onnxpuma.ops.lengths import LENGTHS, argument, norm_of_rows, spread_of_scores
from onnxpuma.ops.moves import MOVES
from onnxpuma.ops.products import PRODUCTS
from onnxpuma.ops.registry import Call, Operand, Operator, altered
from onnxpuma.ops.sight import near_numbers
from onnxpuma.plan.facts import KEPT_ROOM
from onnxpuma.plan.input_spec import LARGEST_INPUT, LARGEST_KEPT
from onnxpuma.plan.known import Known, draft_operand

if TYPE_CHECKING:
    from onnxpuma.graph.model import Node, ValueType
    from onnxpuma.plan.blueprint import Blueprint
    from onnxpuma.plan.plan import SecretInput

UNIT = 2.0**-18
WHOLE = 2.0**40  # an activation reads all that a form holds, where nothing less is known
WIDEST = 16.0  # times its default: a bound beyond is more likely loose than reached, and left to be checked
_AT_CLIENT = ("Add", "Sub", "Mul", "Div", "Neg", "Cast", "Clip", "Relu", "Abs", "Where", "ReduceMean", "Tanh")


def entered(
    blueprint: Blueprint, entry: SecretInput, operand: Operand, held: bool = False, made: Bound = UNKNOWN
) -> Operand:
    """A value that the client shares, or that the servers kept (`held`), with what it is checked to lie
    within, by the client or when it was kept. An integer is a whole word. made: what it is known to lie
    within where the client computes it (`at_client`)."""
    if operand.dtype.kind == "b":
        return altered(operand, bound=TRUTH)
    if not operand.size:
        return altered(operand, bound=Bound(0.0, 0.0))
    if operand.dtype.kind != "f":
        return altered(operand, bound=Bound(-LARGEST_INPUT / UNIT, LARGEST_INPUT / UNIT))
    declared, largest = blueprint.declared.get(entry.name), LARGEST_INPUT
    if held:
        declared, largest = None, LARGEST_KEPT
        if entry.name in blueprint.known_bounds:
            return altered(operand, bound=blueprint.known_bounds[entry.name].times(KEPT_ROOM))
    low, high = declared or (-max(largest, entry.reach), largest)
    return altered(operand, bound=Bound(max(low, made.low), min(high, made.high)))


def at_client(
    blueprint: Blueprint, values: Mapping[str, Known], node: Node, types: Sequence[ValueType]
) -> list[Bound]:
    """Bounds of what a client computes, which follow from the declared ranges of its inputs."""
    rule = MOVES.get(node.op) or (INTERVALS.get(node.op) if node.op in _AT_CLIENT else None)
    if not blueprint.declared or rule is None or node.domain or any(t.dtype.kind != "f" for t in types):
        return [UNKNOWN] * len(types)
    inputs = tuple(None if n is None else _at_client(blueprint, values, n) for n in node.inputs)
    outputs = tuple(draft_operand(n, kind) for n, kind in zip(node.outputs, types, strict=True))
    found = rule(Call(node, inputs, outputs, blueprint.graph.opset))
    if math.isnan(found.low) or math.isnan(found.high):
        found = UNKNOWN
    return [Bound(found.low, found.high).around(UNIT, 1)] * len(types)


def _at_client(blueprint: Blueprint, values: Mapping[str, Known], name: str) -> Operand:
    known = values[name]
    operand = altered(draft_operand(name, known.type), value=known.value)
    declared = blueprint.declared.get(name)
    bound = (
        TRUTH if operand.dtype.kind == "b" else Bound(declared[0], declared[1]) if declared else known.bound
    )
    return altered(operand, bound=bound)


def bounded(blueprint: Blueprint, call: Call, operator: Operator) -> Call:
    """The use with the bounds of its outputs; of what is made of weights alone as its owner has measured."""
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
    several = operator.layout or not found
    rest = found[0] if several and found else UNKNOWN
    found += [rest] * (len(call.outputs) - len(found))
    return [_rounded(call, operator, o, b) for o, b in zip(call.outputs, found, strict=False)]


def _rounded(call: Call, operator: Operator, output: Operand, bound: Bound) -> Bound:
    """With room for the error of the operator, and for zeros where a public number stands in its place."""
    if output.dtype.kind == "b":
        return TRUTH
    if math.isnan(bound.low) or math.isnan(bound.high):
        return UNKNOWN
    if output.beside is not None and not operator.layout:
        bound = Bound(min(bound.low, 0.0), max(bound.high, 0.0), bound.norm, bound.blocks)
    op, moved = call.node.op, operator.layout or output.dtype.kind != "f"
    encoded = any(o is not None and o.value is not None and o.dtype.kind == "f" for o in call.inputs)
    count = max(1, output.shape[-1] if output.shape else 1)
    known = call.node.traits
    if moved or known.chooses or (op == "Attention" and output is not call.outputs[0]):
        return bound.around(UNIT / 2, count) if encoded and known.chooses else bound
    error = UNIT if known.rounded else operator.error_of(call)
    if known.sums or op == "Neg":
        error = UNIT / 2 if encoded else 0.0
    return bound.around(error, count)


QUANTITIES: dict[str, tuple[str, Callable[[Call], float], float]] = {
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
"""Operator -> the quantity that its kernel makes use of (`Limit.key`), what bounds say of it, its default."""


def ranged(blueprint: Blueprint, call: Call) -> Call:
    """The use with how far its kernel reads: as bounds prove, as calibration has found where that is less.

    Where neither says anything, and where a bound is too large to be likely, the default of the operator.
    """
    calibrated = blueprint.bounds(call.node.name)
    entry = QUANTITIES.get(call.node.op) if not call.node.domain else None
    ahead = not call.outputs and call.node.op == "Attention"  # its other operands are not known yet
    if entry is None or ahead:
        return altered(call, bounds=calibrated)
    key, quantity, usual = entry
    proved = _with_room(key, quantity(call), call)
    most = calibrated.get(key, usual * WIDEST if key == "spread" else usual)
    return altered(call, bounds={**calibrated, key: proved} if proved <= most else calibrated)


def _with_room(key: str, quantity: float, call: Call) -> float:
    if key != "norm" and any(o.reach for o in call.secrets):
        return math.inf
    if key == "spread" and near_numbers(call.operand(call.node.traits.scores or 0)):
        quantity *= 4 / 3
    return max(quantity * (1 + 2.0**-8) + (2.5 if key == "spread" else 2.0**-8), 2.0**-8)
