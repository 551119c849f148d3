"""Whether a model's weights are half precision numbers, in whatever type they are stored.

Of the numbers that half precision has, integers and roots are a large part: in such a model fewer of them can
be taken for what an architecture wrote (graph/round_numbers.py).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_LEAST, _READ = 64, 256


def is_coarse(model: ir.Model) -> bool:
    """True when any weight of 64 and more reals is stored in half precision, or begins with 256 numbers that
    half precision holds and that are not all whole. Reads that much of each."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.size < _LEAST:
                continue
            if tensor.dtype in _HALVES or (tensor.dtype == ir.DataType.FLOAT and _holds_halves(tensor)):
                return True
    return False


def _holds_halves(tensor: ir.TensorProtocol) -> bool:
    numbers = np.array(np.asarray(tensor.numpy()).reshape(-1)[:_READ])
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    if np.all(numbers == np.rint(numbers)):
        return False
    with np.errstate(over="ignore"):
        as_float16 = bool(np.all(numbers.astype(np.float16).astype(np.float32) == numbers))
    return as_float16 or not np.any(np.ascontiguousarray(numbers).view(np.uint32) & 0xFFFF)
