"""The clipping of a quantised range: x -> QuantizeLinear -> DequantizeLinear keeps it as a Clip of the float.

Exporters rely on it: a quantiser drops a Relu or a Clip before a range with the same ends. A Clip costs two
comparisons an element on shares, so an end that the preceding values cannot pass is omitted, as far as the
operators just before show it. Constants on the way show it where they are round numbers; the presence of a
Clip reveals nothing about weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.round_numbers import is_round
from onnxpuma.graph.rules import dequantise
from onnxpuma.graph.rules.fused import NotConvertedError, Writer
from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import is_constant, number, scalar, used_once
from onnxpuma.standard.operators import traits

Extent = tuple[float, float]

_RANGES: dict[ir.DataType, Extent] = {
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.INT32: (-(2.0**31), 2.0**31 - 1),
    ir.DataType.FLOAT8E4M3FN: (-448, 448),
    ir.DataType.FLOAT8E5M2: (-57344, 57344),
}
_EVERYTHING = (-math.inf, math.inf)
_DEEPEST = 12


def saturated(
    w: Writer, x: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int, kind: ir.DataType | None = None
) -> ir.Value:
    """`x` clipped to its quantised range: (lowest - zero point) scale to (highest - zero point) scale.

    kind: the quantised type where there is no zero point. An end beyond the known reach of `x` is omitted,
    and so is one that clips no more than one step. Raises NotConvertedError where scale or zero point is not
    a constant, or the type is not known.
    """
    if not is_constant(scale) or (zero is not None and not is_constant(zero)):
        raise NotConvertedError("the scale or the zero point of an activation is not a constant")
    kind = zero.const_value.dtype if zero is not None else kind or ir.DataType.UINT8
    if kind not in _RANGES:
        raise NotConvertedError(f"an activation quantised to {kind}")
    step = dequantise.array_of(scale).astype(np.float64)
    point = np.zeros(()) if zero is None else dequantise.array_of(zero).astype(np.float64)
    low, high = ((end - point) * step for end in _RANGES[kind])
    first, last = extent(x)
    wanted = bool(np.any(first < low - step)), bool(np.any(last > high + step))
    return _cut(w, x, low if wanted[0] else None, high if wanted[1] else None, axis)


def _cut(w: Writer, x: ir.Value, low: np.ndarray | None, high: np.ndarray | None, axis: int) -> ir.Value:
    if low is None and high is None:
        return x
    if high is None and low is not None and not np.any(low):
        kept: ir.Value = w.Relu(x)
        return kept
    if all(end is None or end.size == 1 for end in (low, high)):
        ends = [None if end is None else w.constant(np.float32(end.reshape(()))) for end in (low, high)]
        cut: ir.Value = w.Clip(x, *(ends if ends[1] is not None else ends[:1]))
        return cut
    if x.shape is None:
        raise NotConvertedError("an activation with several scales and of unknown shape")
    wide = [1] * len(x.shape)
    wide[axis] = -1
    for end, write in ((low, w.Max), (high, w.Min)):
        if end is not None:
            x = write(x, w.constant(end.astype(np.float32).reshape(wide)))
    return x


def extent(value: ir.Value | None, depth: int = 0) -> Extent:
    """The interval of a value, as far as the operators before it show."""
    known = _number(value)
    if known is not None:
        return (known, known) if is_round(known) else _EVERYTHING
    node = None if value is None else value.producer()
    if node is None or node.domain or depth > _DEEPEST:
        return _EVERYTHING
    known_traits = traits(node.op_type)
    if known_traits.between is not None:
        return known_traits.between
    if not known_traits.among and node.op_type not in ("Relu", "Clip", "Concat", "AveragePool", "Add", "Sub"):
        return _EVERYTHING
    low, high = extent(node.inputs[0], depth + 1)
    if node.op_type == "Relu":
        return max(low, 0.0), max(high, 0.0)
    if node.op_type == "Clip":
        ends = [*node.inputs, None, None][1:3]
        least, most = map(_number, ends)
        if any(v is not None and end is None for v, end in zip(ends, (least, most), strict=True)):
            return _EVERYTHING
        low = low if least is None else max(low, least)
        return low, max(high if most is None else min(high, most), low)
    if node.op_type == "AveragePool":  # its padding may count as zeros
        return min(low, 0.0), max(high, 0.0)
    if node.op_type in ("Add", "Sub"):
        second = extent(node.inputs[1], depth + 1)
        below, above = second if node.op_type == "Add" else (-second[1], -second[0])
        return low + below, high + above
    if node.op_type == "Concat":
        for other in node.inputs[1:]:
            second = extent(other, depth + 1)
            low, high = min(low, second[0]), max(high, second[1])
    return low, high


def _number(value: ir.Value | None) -> float | None:
    """The number in a constant; None where it is an array, or no constant."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Constant" and "value" in node.attributes:
        array = node.attributes["value"].value.numpy()
        return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "fiub" else None
    return number(value)


class _WithRelu(Rule):
    """A Relu and a Clip, one after the other, become one Clip."""

    def check(self, context: Any, c: ir.Value, x: ir.Value, **_: Any) -> Any:
        inputs = [*c.producer().inputs, None, None]
        ends = [None if v is None else scalar(v) for v in inputs[1:3]]
        if any(v is not None and end is None for v, end in zip(inputs[1:3], ends, strict=True)):
            return no("its bounds are not constants")
        self.low, self.high = ends
        if self.high is None:
            return no("it has no upper end")
        return no("its upper end is below zero") if self.high < 0 else yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, **_: Any) -> Any:
        ends = (max(self.low or 0.0, 0.0), self.high)
        return op.Clip(x, *(op.Constant(value=ir.tensor(np.float32(end))) for end in ends))


class ReluOfClip(_WithRelu):
    """max(min(max(x, low), high), 0) -> min(max(x, max(low, 0)), high), for high >= 0"""

    title = "Relu of what was cut already"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Relu(op.Clip(x, _allow_other_inputs=True, _outputs=["c"]))


class ClipOfRelu(_WithRelu):
    """min(max(max(x, 0), low), high) -> min(max(x, max(low, 0)), high), for high >= 0"""

    title = "Relu before more is cut off"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Clip(op.Relu(x, _outputs=["r"]), _allow_other_inputs=True, _outputs=["c"])

    def check(self, context: Any, c: ir.Value, x: ir.Value, **found: Any) -> Any:
        return super().check(context, c, x) if used_once(found["r"]) else no("other nodes read the Relu too")


RULES = (ReluOfClip, ClipOfRelu)
