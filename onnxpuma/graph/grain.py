"""Whether a model's weights are half-precision numbers, in whatever type they are stored.

Integers and roots are a large part of the numbers that half precision can represent: in such a model fewer
numbers can be attributed to the architecture (graph/round_numbers.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.round_numbers import is_round

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_LEAST, _READ = 64, 256


def is_coarse(model: ir.Model) -> bool:
    """True when any weight is stored in half precision, or has at least 64 reals of which the first 256 are
    half-precision numbers and not all integers. Reads that much of each."""
    for tensor in _tensors(model):
        if tensor.dtype in _HALVES and (
            tensor.size > 1 or not is_round(float(tensor.numpy().reshape(())), True)
        ):
            return True
        if tensor.dtype == ir.DataType.FLOAT and tensor.size >= _LEAST and _holds_halves(tensor):
            return True
    return False


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """The tensors of initializers and of nodes Constant, in any graph."""
    for root in (model.graph, *(function.graph for function in model.functions.values())):
        for graph in (root, *root.subgraphs()):
            yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)
            for node in graph:
                value = node.attributes.get("value") if node.op_type == "Constant" else None
                if value is not None and not value.is_ref() and value.type == ir.AttributeType.TENSOR:
                    yield value.value


def _holds_halves(tensor: ir.TensorProtocol) -> bool:
    numbers = np.array(np.asarray(tensor.numpy()).reshape(-1)[:_READ])
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    if np.all(numbers == np.rint(numbers)):
        return False
    with np.errstate(over="ignore"):
        as_float16 = bool(np.all(numbers.astype(np.float16).astype(np.float32) == numbers))
    return as_float16 or not np.any(np.ascontiguousarray(numbers).view(np.uint32) & 0xFFFF)
