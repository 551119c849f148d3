"""Arithmetic on blocks of single-precision numbers, computed by onnxruntime on the thread that asks for it.

numpy converts half precision one number at a time, and multiplies on threads of its own, which stand in each
other's way where several threads work on blocks side by side.
"""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

_WORTH_A_CALL = 1 << 12  # elements


def to_single(values: np.ndarray) -> np.ndarray:
    """The array in single precision, of the same shape."""
    if values.dtype == np.float16 and values.size >= _WORTH_A_CALL:
        cast = _session("Cast", TensorProto.FLOAT16, 1)
        return np.asarray(_run(cast, values.reshape(-1))).reshape(values.shape)
    if values.dtype == ml_dtypes.bfloat16:
        wide = np.ascontiguousarray(values).view(np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return values.astype(np.float32, copy=False)


def products_of_rows(groups: np.ndarray) -> np.ndarray:
    """X X' for each X of a stack (groups, w, k) of single-precision matrices."""
    return _run(_session("rows", TensorProto.FLOAT, 3), groups)


def products_of_columns(groups: np.ndarray) -> np.ndarray:
    """X' X for each X of a stack (groups, k, w) of single-precision matrices."""
    return _run(_session("columns", TensorProto.FLOAT, 3), groups)


def _run(session: onnxruntime.InferenceSession, x: np.ndarray) -> np.ndarray:
    made: np.ndarray = session.run(None, {"x": np.ascontiguousarray(x)})[0]
    return made


@cache
def _session(what: str, kind: int, rank: int) -> onnxruntime.InferenceSession:
    x = helper.make_tensor_value_info("x", kind, [None] * rank)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    if what == "Cast":
        nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    else:
        order = ["x", "turned"] if what == "rows" else ["turned", "x"]
        turned = helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1])
        nodes = [turned, helper.make_node("MatMul", order, ["y"])]
    opset = helper.make_opsetid("", 21)
    graph = helper.make_graph(nodes, what, [x], [y])
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
