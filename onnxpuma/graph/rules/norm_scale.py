"""The scale and shift of a normalisation are folded into the weights of the products that read it.

With n the normalised tensor, (n g + b) W + c = n (diag(g) W) + (b W + c), which saves a truncation an
element. A residual sum may read it too: its term n g + b is then written out, a product that joins the sum
untruncated.

The owner computes the new weights when they are read; they keep their names. A weight that other nodes read
too is left alone: it would have to be stored twice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.by_rows import times
from onnxpuma.graph.rules.dequantise import lazy
from onnxpuma.graph.rules.folding import Linear, become, own, readers_of, values_of
from onnxpuma.graph.rules.fused import Writer
from onnxpuma.graph.values import are_ones, attribute, is_constant, rank, static_dim, used_once
from onnxpuma.graph.visibility import ONES
from onnxpuma.standard.operators import traits

TITLE = "normalisation folded into weights"


def fold(model: ir.Model) -> dict[str, int]:
    """Fold everything possible, in place; return title -> how often. Reads no weight."""
    made: dict[object, ir.Value] = {}
    norms = [n for n in model.graph.all_nodes() if not n.domain and traits(n.op_type).rows == "normalisation"]
    count = sum(_fold_norm(model, node, made) for node in norms)
    return {TITLE: count} if count else {}


def _fold_norm(model: ir.Model, node: ir.Node, made: dict[object, ir.Value]) -> bool:
    x, scale, y = node.inputs[0], node.inputs[1], node.outputs[0]
    shift = node.inputs[2] if len(node.inputs) > 2 else None
    width = static_dim(y, -1)
    if x is None or scale is None or width is None or any(o.uses() for o in node.outputs[1:]):
        return False
    if attribute(y, "axis") not in (-1, (rank(y) or 0) - 1):
        return False
    done = are_ones(scale) or str(scale.name).startswith(ONES)
    if done or not is_constant(scale) or static_dim(scale, 0) != width or rank(scale) != 1:
        return False
    if shift is not None and (not is_constant(shift) or static_dim(shift, 0) != width or rank(shift) != 1):
        return False
    sums: list[tuple[ir.Node, int]] = []
    readers = readers_of(y, width, sums)
    if readers is None or any(static_dim(r.weight, r.axis) != width for r in readers):
        return False
    read_shift = None if shift is None else values_of(shift)
    for reader in readers:
        if read_shift is not None:
            _add_shift(model, reader, read_shift)
        _scale_rows(reader, values_of(scale))
    if sums:
        _write_out(node, scale, shift, sums)
    writer = Writer(model, made)
    ones = writer.shared(
        ("ones", width), lambda: writer.weight(ir.tensor(np.ones(width, np.float32)), f"{ONES}{width}")
    )
    node.replace_input_with(1, ones)
    if shift is not None:
        node.resize_inputs(2)
    return True


def _write_out(
    node: ir.Node, scale: ir.Value, shift: ir.Value | None, sums: list[tuple[ir.Node, int]]
) -> None:
    """Let these sums read n g + b in place of n."""
    y, owner = node.outputs[0], node.graph
    assert owner is not None
    term, made = y, []
    for op, factor in (("Mul", scale), ("Add", shift)):
        if factor is not None:
            made.append(ir.node(op, [term, factor], name=f"{node.name}/{op}"))
            term = made[-1].outputs[0]
            term.type, term.shape = y.type, y.shape
    owner.insert_after(node, made)
    for reader, slot in sums:
        reader.replace_input_with(slot, term)


def _scale_rows(linear: Linear, read_factors: Callable[[], np.ndarray]) -> None:
    linear.weight.const_value = times(linear.weight.const_value, read_factors, linear.axis)


def _add_shift(model: ir.Model, linear: Linear, read_shift: Callable[[], np.ndarray]) -> None:
    """Add shift W to the product's result: into its bias if only the product reads one."""
    node, axis = linear.node, linear.axis
    read_weight = values_of(linear.weight)
    alpha = attribute(node.outputs[0], "alpha") if node.op_type == "Gemm" else 1.0

    def read() -> np.ndarray:
        weight = read_weight()
        return np.float32(alpha) * (read_shift() @ (weight if axis == 0 else weight.T))

    bias = _bias_of(node, linear.columns)
    if bias is not None:
        before = values_of(bias)
        become(bias, lambda: before() + read().reshape(before().shape))
        return
    writer = Writer(model, {})
    made = writer.weight(lazy(read, (linear.columns,)), f"{linear.weight.name}_shift")
    if node.op_type == "Gemm" and (len(node.inputs) < 3 or node.inputs[2] is None):
        node.resize_inputs(3)
        node.replace_input_with(2, made)
        return
    y = node.outputs[0]
    total = ir.node("Add", [y, made], name=f"{node.name}/shift")
    total.outputs[0].type, total.outputs[0].shape = y.type, y.shape
    readers = [(n, i) for n, i in y.uses() if n is not total]
    for reader, slot in readers:
        reader.replace_input_with(slot, total.outputs[0])
    owner = node.graph
    assert owner is not None
    for slot, output in enumerate(owner.outputs):
        if output is y:
            owner.outputs[slot] = total.outputs[0]
    owner.insert_after(node, total)


def _bias_of(node: ir.Node, columns: int) -> ir.Value | None:
    """The constant vector added to the product and read by nothing else, if there is one."""
    if node.op_type == "Gemm":
        bias = node.inputs[2] if len(node.inputs) > 2 else None
    else:
        y = node.outputs[0]
        added = y.uses()[0].node if used_once(y) else None
        if added is None or added.op_type != "Add" or added.domain:
            return None
        bias = added.inputs[1] if added.inputs[0] is y else added.inputs[0]
    if bias is None or not own(bias) or bias.const_value.size != columns or (rank(bias) or 0) > 2:
        return None
    return bias
