"""How much memory a server needs: its shares of the weights, and the peak of a run.

The factors below were measured (`validate` prints the peak): a kernel needs its operands, and some words for
each number that it computes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxpuma.graph.model import Node
from onnxpuma.mpc.forms import Sum3
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.streaming import reads
from onnxpuma.plan.timeline import Uses, events

Shape: TypeAlias = "tuple[int, ...]"

_PROCESS = 180 << 20  # Python and its libraries
_REPLICATED, _SUM = 16, 8  # bytes per element: two words, or one
_LOADING = 8  # more per element of the largest weight, while it is read
_WORKING = 150  # per result element of a step that exchanges messages
_MOVING = 24  # per result element of a step that does not
_SCORE = 170  # per score inside an attention
_HIDDEN = {"Conv": 16, "MaxPool": 35, "ConvTranspose": 50}  # per element of a patch inside the operator
ROW_BYTES = 12  # per row of a table, for each id that is looked up in it


@dataclass(frozen=True)
class Memory:
    """Bytes at one server."""

    # About what `validate` measures.
    whole: int
    # The part of it that holds shares of weights.
    weights: int
    # No memory: the bytes of one component of the weights that the run reads, or makes from a key.
    streamed: int = 0


def memory(
    plan: Plan, blueprint: Blueprint, held: int | None = None, streamed: Collection[str] = ()
) -> Memory:
    """The memory of one run, to within about a quarter. Waiting requests need more.

    held: bytes that the weights take where `streamed` ones do not stay (weights/residence.py).
    """
    sizes = {name: blueprint.graph.initializers[name].size for name in blueprint.weights}
    if held is None:
        held = sum(blueprint.format(name).held * size for name, size in sizes.items())
    stay = [size for name, size in sizes.items() if name not in streamed]
    widest = max(_LOADING * max(stay, default=0), _widest(plan))
    taken = sum(blueprint.format(name).bytes(sizes[name]) for name in reads(plan, streamed))
    return Memory(_PROCESS + held + widest, held, taken)


def _widest(plan: Plan) -> int:
    live = {entry.operand: _REPLICATED * _size(entry.shape) for entry in (*plan.inputs, *plan.held)}
    uses = Uses(plan)
    held = widest = sum(live.values())
    for step, starts in events(plan):
        if starts:
            made = {} if step.constant else {o.name: _bytes(o) for o in step.call.outputs}
            live.update(made)
            held += sum(made.values()) + _working(step)
            widest = max(widest, held)
        else:
            held -= _working(step) + sum(live.pop(name, 0) for name in uses.over(step))
    return widest


def _working(step: Step) -> int:
    """Bytes in addition to operands and results."""
    call = step.call
    ids = next((o for o in call.inputs if o is not None and o.form is SecretIds), None)
    if ids is not None:
        return ROW_BYTES * ids.size * call.given(0).shape[0]
    made = sum(o.size for o in call.outputs)
    if step.operator.name == "Attention":
        return _WORKING * made + _SCORE * scores(call)
    beside = _HIDDEN.get(step.operator.name, 0) * patched(
        call.node, [None if o is None else o.shape for o in call.inputs], [o.shape for o in call.outputs]
    )
    return (_WORKING if step.cost.rounds else _MOVING) * made + beside


def patched(node: Node, given: Sequence[Shape | None], made: Sequence[Shape]) -> int:
    """Elements of the patches under a window, or of the products that a transposed convolution adds up."""
    x, w = given[0], given[1] if len(given) > 1 else None
    if node.op == "ConvTranspose" and x and w:
        return _size((x[0], *x[2:], *w[1:])) * int(node.attribute("group"))
    if node.op == "Conv" and x and w and made:
        return _size((made[0][0], x[1], *made[0][2:], *w[2:]))
    if node.op in ("MaxPool", "LpPool") and made:
        return _size(made[0]) * _size(node.attribute("kernel_shape"))
    return 0


def scores(call: Call) -> int:
    """The number of scores: queries times keys, for each head of each sequence."""
    q, k = call.given(0), call.given(1)
    if len(q.shape) == 4:
        return _size(q.shape[:3]) * k.shape[2]
    return q.shape[0] * q.shape[1] * k.shape[1] * int(call.attribute("q_num_heads") or 1)


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _bytes(operand: Operand) -> int:
    return (_SUM if operand.form is Sum3 else _REPLICATED) * operand.size
