"""onnxruntime's activations: Gelu, BiasGelu, FastGelu, QuickGelu, BiasSplitGelu."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxpuma.graph.rules.fused import Conversion, Old, Writer


def _gelu(w: Writer, old: Old) -> Sequence[ir.Value]:
    return [w.Gelu(old.given(0), approximate="none")]


def _bias_gelu(w: Writer, old: Old) -> Sequence[ir.Value]:
    return [w.Gelu(w.Add(old.given(0), old.given(1)), approximate="none")]


def _fast_gelu(w: Writer, old: Old) -> Sequence[ir.Value]:
    x, bias = old.given(0), old[1]
    return [w.Gelu(x if bias is None else w.Add(x, bias), approximate="tanh")]


def _quick_gelu(w: Writer, old: Old) -> Sequence[ir.Value]:
    return [w.Swish(old.given(0), alpha=float(old.attribute("alpha")))]


def _bias_split_gelu(w: Writer, old: Old) -> Sequence[ir.Value]:
    """The first half of the last axis times the GELU of the second."""
    first, second = w.Split(w.Add(old.given(0), old.given(1)), axis=-1, num_outputs=2, _outputs=2)
    return [w.Mul(first, w.Gelu(second, approximate="none"))]


CONVERSIONS: dict[str, Conversion] = {
    "Gelu": _gelu,
    "BiasGelu": _bias_gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
    "BiasSplitGelu": _bias_split_gelu,
}
