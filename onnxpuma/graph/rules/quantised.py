"""Quantised models become float ones: weights are dequantised, activations no longer rounded.

Rounding an activation to eight bits would cost a comparison an element on shares and only loses accuracy. So
x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul becomes MatMul(x, W) with the float weight that the
integers represent, and of a QuantizeLinear followed by a DequantizeLinear only the clipping stays
(`saturation`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules import dequantise, saturation
from onnxpuma.graph.rules.fused import Conversion, NotConvertedError, Old, Writer
from onnxpuma.graph.rules.fused_attention import projected
from onnxpuma.graph.rules.fused_norm import embedding
from onnxpuma.graph.values import is_constant, used_once
from onnxpuma.standard.operators import traits

# Besides layout, they move elements or keep order: the same on quantised values and on those they represent.
_PASSING = ("Expand", "Gather", "MaxPool", "Slice")


def weight(
    w: Writer, q: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int, block: int = 0
) -> ir.Value:
    """The float initializer that constants q, scale and zero represent; shared by all readers."""
    if not is_constant(q) or not is_constant(scale) or (zero is not None and not is_constant(zero)):
        raise NotConvertedError("a quantised weight, its scale or its zero point is not a constant")
    return w.shared(
        (q, scale, zero, axis, block),
        lambda: w.weight(dequantise.linear(q, scale, zero, axis, block), f"{q.name}_float"),
    )


def real(
    w: Writer, q: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int = -1, block: int = 0
) -> ir.Value:
    """The float that the quantised value `q` represents."""
    if is_constant(q):
        return weight(w, q, scale, zero, axis, block)
    node = q.producer()
    if node is None or node.domain:
        raise NotConvertedError("a quantised input of the model, or one of another origin")
    source = node.inputs[0]
    assert source is not None
    if node.op_type == "DynamicQuantizeLinear":
        return source
    if node.op_type == "QuantizeLinear":
        return _cut_off(w, Old(node), scale, zero)
    if traits(node.op_type).layout or node.op_type in _PASSING:
        one = scale.const_value is None or scale.const_value.size == 1
        if not one and node.op_type != "Gather":
            raise NotConvertedError(f"{node.op_type} of a value with several scales")
        inner = real(w, source, scale, zero, axis, block)
        attributes = {n: a.value for n, a in node.attributes.items()}
        passed: ir.Value = getattr(w, node.op_type)(inner, *node.inputs[1:], **attributes)
        return passed
    if node.op_type in ("QLinearMatMul", "QLinearConv"):
        return _linear(w, Old(node))
    raise NotConvertedError(f"a quantised value that {node.op_type} makes")


def _cut_off(w: Writer, old: Old, scale: ir.Value, zero: ir.Value | None) -> ir.Value:
    """A QuantizeLinear's input clipped to its range, read with this scale and zero point."""
    own = (old[1], old[2])
    if not all(_same(mine, theirs) for mine, theirs in zip(own, (scale, zero), strict=True)):
        raise NotConvertedError("a value is quantised with one scale and read with another")
    kind = old.attribute("output_dtype")
    return saturation.saturated(
        w, old.given(0), scale, zero, old.attribute("axis"), ir.DataType(kind) if kind else None
    )


def _same(mine: ir.Value | None, theirs: ir.Value | None) -> bool:
    """Whether two scales or zero points are equal; a missing zero point is zero."""
    if mine is theirs:
        return True
    first, second = (np.zeros(()) if v is None else v.const_value for v in (mine, theirs))
    if first is None or second is None:
        return False
    values = [v if isinstance(v, np.ndarray) else v.numpy() for v in (first, second)]
    return bool(np.array_equal(np.float64(values[0]).reshape(-1), np.float64(values[1]).reshape(-1)))


def _linear(w: Writer, old: Old) -> ir.Value:
    """QLinearMatMul or QLinearConv: x, its scale and zero point, then those of the weight, of the result."""
    x = real(w, old.given(0), old.given(1), old[2])
    if old.node.op_type == "QLinearMatMul":
        product: ir.Value = w.MatMul(x, real(w, old.given(3), old.given(4), old[5], axis=-1))
        return saturation.saturated(w, product, old.given(6), old[7], -1)
    kernel = weight(w, old.given(3), old.given(4), old[5], axis=0)
    attributes = {n: a.value for n, a in old.node.attributes.items()}
    y: ir.Value = w.Conv(x, kernel, **attributes)
    bias = old[8]
    if bias is None:
        return saturation.saturated(w, y, old.given(6), old[7], 1)
    if not is_constant(bias):
        raise NotConvertedError("the bias of QLinearConv is not a constant")
    scales = (old.given(1), old.given(4))

    def read() -> np.ndarray:  # its unit is the product of both scales
        found: np.ndarray = dequantise.array_of(bias).astype(np.float32)
        for s in scales:
            found = found * dequantise.array_of(s).astype(np.float32).reshape(-1)
        return found

    size = int(bias.const_value.size)
    y = w.Conv(x, kernel, w.weight(dequantise.lazy(read, (size,)), f"{bias.name}_float"), **attributes)
    return saturation.saturated(w, y, old.given(6), old[7], 1)


def _dequantize(w: Writer, old: Old) -> Sequence[ir.Value]:
    axis, block = old.attribute("axis"), old.attribute("block_size")
    if not is_constant(old.given(0)) and any(n.op_type == "Equal" for n, _ in old.node.outputs[0].uses()):
        raise NotConvertedError("its result is compared for equality, and shares leave its rounding out")
    return [real(w, old.given(0), old.given(1), old[2], axis, block)]


def _scaled_product(w: Writer, old: Old) -> Sequence[ir.Value]:
    """Mul(Cast(MatMulInteger or ConvInteger(x, W, zero points)), Mul(scale of x, scale of W))"""
    for product, scales in ((old.given(0), old.given(1)), (old.given(1), old.given(0))):
        cast, both = product.producer(), scales.producer()
        if cast is None or cast.op_type != "Cast" or both is None or both.op_type != "Mul":
            continue
        integers = cast.inputs[0].producer() if cast.inputs[0] is not None else None
        if integers is None or integers.op_type not in ("MatMulInteger", "ConvInteger"):
            continue
        if not used_once(product):
            raise NotConvertedError("other nodes read the integers of its product too")
        return [_product(w, Old(integers), both)]
    raise NotConvertedError("")


def _product(w: Writer, integers: Old, scales: ir.Node) -> ir.Value:
    q, p = integers.given(0), integers.given(1)
    dynamic = q.producer()
    if dynamic is None or dynamic.op_type != "DynamicQuantizeLinear":
        raise NotConvertedError("a factor of an integer product is not quantised just before it")
    given = [v for v in scales.inputs if v is not None and v is not dynamic.outputs[1]]
    if len(given) != 1:
        raise NotConvertedError("an integer product is not scaled back by the two scales")
    x = dynamic.inputs[0]
    other = p.producer()
    if integers.node.op_type == "ConvInteger":
        attributes = {n: a.value for n, a in integers.node.attributes.items()}
        y: ir.Value = w.Conv(x, weight(w, p, given[0], integers[3], axis=0), **attributes)
        return y
    if other is not None and other.op_type == "DynamicQuantizeLinear" and given[0] is other.outputs[1]:
        second = other.inputs[0]  # two activations, as in the scores of an attention
    else:
        second = weight(w, p, given[0], integers[3], axis=-1)
    product: ir.Value = w.MatMul(x, second)
    return product


def _plus(w: Writer, y: ir.Value, bias: ir.Value | None) -> Sequence[ir.Value]:
    return [y if bias is None else w.Add(y, bias)]


def _dynamic_matmul(w: Writer, old: Old) -> Sequence[ir.Value]:
    kernel = weight(w, old.given(1), old.given(2), old[3], axis=-1)
    return _plus(w, w.MatMul(old.given(0), kernel), old[4])


def _to_float(w: Writer, old: Old) -> Sequence[ir.Value]:
    x = real(w, old.given(0), old.given(2), old[4])
    return _plus(w, w.MatMul(x, real(w, old.given(1), old.given(3), old[5], axis=-1)), old[6])


def _q_attention(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    x = real(w, old.given(0), old.given(3), old[6])
    kernel = weight(w, old.given(1), old.given(4), old[7], axis=-1)
    return projected(w, old, x, kernel, old[2], old[5], old[8], None)


def _q_embedding(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    def table(index: int, scale: int) -> ir.Value:
        return weight(w, old.given(index), old.given(scale), old[scale + 5], axis=-1)

    segments = None if old[4] is None else table(4, 10)
    return embedding(w, old, table(2, 8), table(3, 9), segments, table(5, 11), table(6, 12), old[7], None)


def _n_bits(w: Writer, old: Old) -> Sequence[ir.Value]:
    old.refuse_inputs(g_idx=4)
    packed, scale, zero = old.given(1), old.given(2), old[3]
    if not all(v is None or is_constant(v) for v in (packed, scale, zero)):
        raise NotConvertedError("its weight is not a constant")
    rows, columns, block = (int(old.attribute(n)) for n in ("N", "K", "block_size"))
    tensor = dequantise.in_blocks(packed, scale, zero, rows, columns, int(old.attribute("bits")), block)
    return _plus(w, w.MatMul(old.given(0), w.weight(tensor, f"{packed.name}_float")), old[5])


def _gather_blocks(w: Writer, old: Old) -> Sequence[ir.Value]:
    data, ids, scale, zero = old.given(0), old.given(1), old.given(2), old[3]
    if not all(v is None or is_constant(v) for v in (data, scale, zero)):
        raise NotConvertedError("its table is not a constant")
    if data.dtype not in (ir.DataType.UINT8, ir.DataType.UINT4, ir.DataType.INT4):
        raise NotConvertedError(f"a table of {data.dtype} is not supported")
    axis, block = old.attribute("quantize_axis"), old.attribute("block_size")
    tensor = dequantise.table_in_blocks(data, scale, zero, axis, old.attribute("bits"), block)
    table = w.shared(
        ("blocks", data, scale, zero, axis, block), lambda: w.weight(tensor, f"{data.name}_float")
    )
    return [w.Gather(table, ids, axis=old.attribute("gather_axis"))]


CONVERSIONS: dict[str, Conversion] = {
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _to_float,
    "QAttention": _q_attention,
    "QEmbedLayerNormalization": _q_embedding,
    "DequantizeLinear": _dequantize,
    "MatMulNBits": _n_bits,
    "GatherBlockQuantized": _gather_blocks,
}
# Operators of the standard's own domain: examined in every model that has quantised values.
STANDARD: dict[str, Conversion] = {"DequantizeLinear": _dequantize, "Mul": _scaled_product}
