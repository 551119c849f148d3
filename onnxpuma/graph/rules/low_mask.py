"""Fillers of masks before a Softmax that is not part of an attention become the lowest float.

Old exporters write -10000 where a score is masked. In fixed point a mask only has to be far below every
score, and one that says clearly what it is is recognised (ops/elementwise.py); -10000 might be a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.fused import Writer
from onnxpuma.graph.rules.rule import scalar

TITLE = "filler of a mask"
_FROM = 1e4
_LOWEST = np.finfo(np.float32).min
_READERS = ("Softmax", "Add", "Sub", "Attention")


def lower(model: ir.Model) -> dict[str, int]:
    """Replace them all, in place: what -> how often."""
    writer = Writer(model, {})
    found = [
        place
        for node in model.graph.all_nodes()
        if node.op_type == "Softmax" and not node.domain
        for place in _fillers(node.inputs[0])
    ]
    for node, slot, sign in dict.fromkeys(found):
        value = node.inputs[slot]
        assert value is not None
        assert value.shape is not None
        filler = ir.tensor(np.full(value.shape.numpy(), sign * _LOWEST, np.float32))
        name = f"mask_filler_{len(value.shape)}" if sign > 0 else f"mask_factor_{len(value.shape)}"
        node.replace_input_with(slot, writer.shared(name, partial(writer.weight, filler, name)))
    return {TITLE: len(set(found))} if found else {}


def _fillers(scores: ir.Value | None) -> Iterator[tuple[ir.Node, int, int]]:
    """(node, which input, sign) of each constant that is a filler in these scores."""
    node = None if scores is None else scores.producer()
    if node is None or node.domain:
        return
    if node.op_type in ("Add", "Sub"):
        for place in (0, 1):
            mask = node.inputs[place]
            inner = None if mask is None else mask.producer()
            sign = -1 if node.op_type == "Sub" and place else 1
            if inner is not None and inner.op_type in ("Where", "Mul") and _read_as_mask(inner):
                yield from _in(inner, sign)
    elif node.op_type == "Where" and _read_as_mask(node):
        yield from _in(node, 1)


def _in(node: ir.Node, sign: int) -> Iterator[tuple[ir.Node, int, int]]:
    for slot in (1, 2) if node.op_type == "Where" else (0, 1):
        value = scalar(node.inputs[slot])
        if value is not None and np.isfinite(value) and sign * value <= -_FROM:
            yield node, slot, sign


def _read_as_mask(node: ir.Node) -> bool:
    output = node.outputs[0]
    return not output.is_graph_output() and all(u.node.op_type in _READERS for u in output.uses())
