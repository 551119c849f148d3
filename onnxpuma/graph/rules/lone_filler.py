"""A lone number that masks, and is not round, becomes the next power of ten further out.

Some models have -50000 or -99999 where others write -1e9: a number selected in place of scores, or multiplied
by zero or one, and read only by operators that look for the largest of a row. As a weight it would be in the
words of the scores, where it may be further out than they are read. The replacement discloses only that it
masks.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.model import to_graph
from onnxpuma.graph.round_numbers import is_round
from onnxpuma.graph.rules.fused import Writer
from onnxpuma.graph.rules.weight_only import Classify
from onnxpuma.graph.values import number, small_array
from onnxpuma.standard.mask_values import MASKED
from onnxpuma.standard.operators import traits

TITLE = "lone numbers that mask"
_MOVES = ("Concat", "Expand", "Slice", "Tile")
_CARRIES = (*_MOVES, "Cast", "Div", "Mul", "Neg", "Pad", "Split", "Where")
_CUTS = ("Max", "Min", "Clip")  # of masks that were added together
_PLACES = ("ArgMax", "ArgMin")
_MOST_STEPS = 64


def known(model: ir.Model, secret: Classify) -> dict[str, int]:
    """Replace every such `secret` number, in place; return title -> how often."""
    found = [v for v in model.graph.initializers.values() if _masks(v)]
    if not found:
        return {}
    weights = {*secret(to_graph(model))}
    found = [v for v in found if v.name in weights]
    for value in found:
        held = number(value)
        assert held is not None
        further = math.copysign(10.0 ** math.ceil(math.log10(abs(held))), held)
        made = Writer(model, {}).weight(
            ir.tensor(np.full(tuple(value.shape or ()), further, np.float32)), f"{value.name}_filler"
        )
        for node, slot in list(value.uses()):
            node.replace_input_with(slot, made)
    return {TITLE: len(found)} if found else {}


def _masks(value: ir.Value) -> bool:
    held = number(value) if value.dtype == ir.DataType.FLOAT else None
    if held is None or not -MASKED <= abs(held) < np.inf or is_round(abs(held)):
        return False
    return bool(value.uses()) and all(_fills(node, slot) for node, slot in value.uses())


def _fills(node: ir.Node, slot: int) -> bool:
    """Whether a number is selected here, or scales zeros and ones, and so only marks the excluded places."""
    chosen = (node.op_type == "Where" and slot > 0) or node.op_type in _CUTS
    scales = node.op_type == "Mul" and _of_truth(node.inputs[1 - slot])
    return not node.domain and (chosen or scales) and _is_left_out(node.outputs[0])


def _of_truth(value: ir.Value | None, depth: int = 0) -> bool:
    """Whether a value is computed from booleans or integers: a cast, a selection of numbers up to one, or one
    minus such a value.
    """
    node = None if value is None else value.producer()
    if node is None or depth > 4:
        return False
    if node.op_type == "Cast":
        kind = node.inputs[0].dtype if node.inputs[0] is not None else None
        return kind is not None and not kind.is_floating_point()
    if node.op_type == "Where":
        chosen = [small_array(each) for each in node.inputs[1:]]
        return all(array is not None and bool(np.all(np.abs(array) <= 1)) for array in chosen)
    if traits(node.op_type).layout or node.op_type in ("Sub", "Neg", *_MOVES):
        return any(_of_truth(each, depth + 1) for each in node.inputs)
    return False


def _is_left_out(value: ir.Value) -> bool:
    """Whether all readers of a value, directly or after layout changes, look for the largest of a row."""
    todo, seen = [value], {value}
    while todo:
        each = todo.pop()
        if each.is_graph_output() or not each.uses() or len(seen) > _MOST_STEPS:
            return False
        for node, slot in each.uses():
            if node.domain:
                return False
            if traits(node.op_type).scores == slot or node.op_type in _PLACES:
                continue
            known = traits(node.op_type)
            if not (known.layout or known.sums) and node.op_type not in (*_CARRIES, *_CUTS):
                return False
            fresh = [o for o in node.outputs if o not in seen]
            seen.update(fresh)
            todo += fresh
    return True
