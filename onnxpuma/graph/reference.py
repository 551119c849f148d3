"""A model's results in the clear: its file in onnxruntime, or its canonical graph node by node."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from onnxpuma.graph.model import Graph, Node
from onnxpuma.graph.run import open_session, run_node

_REALS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
_BFLOAT16 = "tensor(bfloat16)"  # numpy has no such type, and onnxruntime returns its bytes


def run_file(path: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name, from the unchanged nodes of the file: nothing is fused or rounded differently.

    Reals are accepted in any type and passed in the type that the file declares; entries of `feed` that the
    file does not take are ignored. bfloat16 comes back as float32. Memory: the values between nodes; weights
    outside the file stay mapped from theirs. Raises onnxruntime's own many kinds of errors.
    """
    session = open_session(str(path), optimised=False)
    taken = [*session.get_inputs(), *session.get_overridable_initializers()]
    kinds = {value.name: value.type for value in taken}
    names = [value.name for value in session.get_outputs()]
    given = {name: np.asarray(feed[name]) for name in kinds if name in feed}
    if _BFLOAT16 not in {*kinds.values(), *(value.type for value in session.get_outputs())}:
        typed = {name: array.astype(_REALS.get(kinds[name], array.dtype)) for name, array in given.items()}
        return dict(zip(names, session.run(names, typed), strict=True))
    values = {name: _value(array, kinds[name]) for name, array in given.items()}
    return dict(zip(names, map(_array, session.run_with_ort_values(names, values)), strict=True))


def run_canonical(graph: Graph, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name, from the canonical graph with its weights: what the shares compute, in floats.

    Memory: one weight, and the values still to be read. Raises ModelError when a node cannot be run.
    """
    last = {name: node for node in graph.nodes for name in _read_by(node)}
    values = {name: np.asarray(value) for name, value in feed.items()}

    def value(name: str | None) -> np.ndarray | None:
        if name is None or name in values:
            return None if name is None else values[name]
        return graph.initializers[name].numpy()

    for node in graph.nodes:
        outer = {n: v for g in node.subgraphs for n in g.captured() if (v := value(n)) is not None}
        results = run_node(node, [value(name) for name in node.inputs], graph.opset, outer)
        values.update((n, v) for n, v in zip(node.outputs, results, strict=True) if n)
        for name in [n for n in {*_read_by(node), *node.outputs} if n]:
            if last.get(name, node) is node and name not in graph.outputs:
                values.pop(name, None)
                if name in graph.initializers:
                    graph.initializers[name].release()
    return {name: np.asarray(value(name)) for name in graph.outputs}


def _read_by(node: Node) -> set[str]:
    return {n for n in (*node.inputs, *(c for g in node.subgraphs for c in g.captured())) if n}


def _value(array: np.ndarray, kind: str) -> onnxruntime.OrtValue:
    if kind != _BFLOAT16:
        return onnxruntime.OrtValue.ortvalue_from_numpy(
            np.ascontiguousarray(array.astype(_REALS.get(kind, array.dtype)))
        )
    words = array.astype(ir.DataType.BFLOAT16.numpy()).view(np.uint16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.ascontiguousarray(words), int(ir.DataType.BFLOAT16)
    )


def _array(value: onnxruntime.OrtValue) -> np.ndarray:
    if value.data_type() != _BFLOAT16:
        return np.asarray(value.numpy())
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    words = np.frombuffer(content, np.uint16).astype(np.uint32) << 16  # the upper half of a float32
    return words.view(np.float32).reshape(value.shape())
