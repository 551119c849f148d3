"""The factors of a Gemm go into its constants: alpha A B + beta C -> A (alpha B) + (beta C).

A weight of small numbers keeps its digits only in a product to which no other factor adds fraction bits. An
alpha of 2^-k stays: it moves the point and costs no digit.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.by_rows import times
from onnxpuma.graph.rules.folding import own
from onnxpuma.graph.rules.fused import Writer, put
from onnxpuma.graph.values import attribute

TITLE = "factors of a Gemm folded into constants"


def fold(model: ir.Model) -> dict[str, int]:
    """Fold every possible factor, in place; return title -> how often. Reads no weight."""
    found = [n for n in model.graph.all_nodes() if n.op_type == "Gemm" and not n.domain and _factors(n)]
    for node in found:
        _written(model, node, **_into_constants(node, _factors(node)))
    return {TITLE: len(found)} if found else {}


def halves(alpha: float) -> int | None:
    """k where alpha is 2^-k, k > 0; None of any other number."""
    mantissa, exponent = math.frexp(alpha)
    return 1 - exponent if mantissa == 0.5 and exponent < 1 else None


def _factors(node: ir.Node) -> dict[str, float]:
    """alpha and beta, where they are to leave the Gemm."""
    found = {name: float(attribute(node.outputs[0], name)) for name in ("alpha", "beta")}
    return {
        name: value for name, value in found.items() if value != 1.0 and (name == "beta" or not halves(value))
    }


def _into_constants(node: ir.Node, factors: dict[str, float]) -> dict[str, float]:
    """Multiply the constants that this node alone reads; returns the factors that are left."""
    left = {}
    for name, factor in factors.items():
        places = node.inputs[1::-1] if name == "alpha" else node.inputs[2:]
        constant = next((v for v in places if own(v)), None)
        if constant is None:
            left[name] = factor
            continue
        constant.const_value = times(constant.const_value, partial(np.float32, factor))
        node.attributes.pop(name)
    return left


def _written(model: ir.Model, node: ir.Node, alpha: float = 1.0, beta: float = 1.0) -> None:
    """The factors that no constant absorbed, as separate products."""
    y, bias, owner = node.outputs[0], node.inputs[2] if len(node.inputs) > 2 else None, node.graph
    if (alpha == 1.0 and (beta == 1.0 or bias is None)) or y.dtype != ir.DataType.FLOAT or owner is None:
        return
    w = Writer(model, {})
    attributes = {name: a.value for name, a in node.attributes.items() if name != "beta"}
    if bias is not None and beta != 1.0:
        bias = w.Mul(bias, w.constant(np.float32(beta)))
    if alpha == 1.0:
        put(owner, node, w, [w.Gemm(*node.inputs[:2], bias, **attributes)])
        return
    attributes.pop("alpha")
    product = w.Mul(w.Gemm(*node.inputs[:2], **attributes), w.constant(np.float32(alpha)))
    put(owner, node, w, [product if bias is None else w.Add(product, bias)])
