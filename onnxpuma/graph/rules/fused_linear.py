"""onnxruntime's products with something before or after them: FusedMatMul, FusedGemm, FusedConv, BiasAdd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.fused import Conversion, NotConvertedError, Old, Writer
from onnxpuma.graph.values import rank

_ONE_INPUT = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")
# Activation -> (attribute, default) in the order of the parameters.
_WITH_PARAMETERS = {
    "LeakyRelu": (("alpha", 0.01),),
    "ThresholdedRelu": (("alpha", 1.0),),
    "Elu": (("alpha", 1.0),),
    "HardSigmoid": (("alpha", 0.2), ("beta", 0.5)),
}


def _activated(w: Writer, y: ir.Value, name: str | None, parameters: Sequence[float | None]) -> ir.Value:
    if not name:
        return y
    write: Any = getattr(w, name)
    if name in _ONE_INPUT:
        value: ir.Value = write(y)
        return value
    if name == "Clip" and len(parameters) >= 2:
        low, high = (w.constant(np.float32(p)) for p in parameters[:2])
        clipped: ir.Value = w.Clip(y, low, high)
        return clipped
    if name not in _WITH_PARAMETERS:
        raise NotConvertedError(f"its activation {name} is not supported")
    given = [p for p in parameters if p is not None]
    values = {a: given[k] if k < len(given) else d for k, (a, d) in enumerate(_WITH_PARAMETERS[name])}
    with_parameters: ir.Value = write(y, **values)
    return with_parameters


def _turned(w: Writer, x: ir.Value, batch: int, last: int) -> ir.Value:
    """`x` with its first axis moved behind the other batch axes (batch), its last two exchanged (last)."""
    if not batch and not last:
        return x
    axes = rank(x)
    if axes is None:
        raise NotConvertedError("the number of axes of its transposed input is not known")
    if axes < 2:
        return x
    perm = [*range(1, axes - 1), 0, axes - 1] if batch and axes > 2 else list(range(axes))
    if last:
        perm[-2:] = perm[:-3:-1]
    turned: ir.Value = w.Transpose(x, perm=perm)
    return turned


def _fused_matmul(w: Writer, old: Old) -> Sequence[ir.Value]:
    a = _turned(w, old.given(0), old.attribute("transBatchA"), old.attribute("transA"))
    b = _turned(w, old.given(1), old.attribute("transBatchB"), old.attribute("transB"))
    y = w.MatMul(a, b)
    alpha = old.attribute("alpha")
    if alpha != 1.0:
        y = w.Mul(y, w.constant(np.float32(alpha)))
    given = [old.attribute(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    return [_activated(w, y, old.attribute("activation"), given)]


def _fused_gemm(w: Writer, old: Old) -> Sequence[ir.Value]:
    attributes = {n: old.attribute(n) for n in ("alpha", "beta", "transA", "transB")}
    y = w.Gemm(*(v for v in (old[0], old[1], old[2]) if v is not None), **attributes)
    given = [old.attribute(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    return [_activated(w, y, old.attribute("activation"), given)]


def _fused_conv(w: Writer, old: Old) -> Sequence[ir.Value]:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    attributes = {n: old.attribute(n) for n in names}
    y = w.Conv(*(v for v in (old[0], old[1], old[2]) if v is not None), **attributes)
    added = old[3]
    if added is not None:
        y = w.Add(y, added)
    return [_activated(w, y, old.attribute("activation"), old.attribute("activation_params"))]


def _bias_add(w: Writer, old: Old) -> Sequence[ir.Value]:
    return [w.Add(w.Add(old.given(0), old.given(1)), old.given(2))]


CONVERSIONS: dict[str, Conversion] = {
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "FusedMatMulActivation": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "FusedConv": _fused_conv,
    "BiasAdd": _bias_add,
}
