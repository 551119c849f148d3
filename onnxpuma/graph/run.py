"""Run single public nodes, or a public graph, in the clear through onnxruntime.

Each kind of node (operator, attributes, element types, ranks) gets one onnxruntime session, kept for the next
node of that kind. Operators and element types that onnxruntime lacks run in onnx's reference implementation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from onnxpuma.errors import ModelError
from onnxpuma.graph.model import Graph, Node, ValueType
from onnxpuma.graph.protobuf import graph_proto, model_proto, node_proto, type_proto
from onnxpuma.graph.sampling import DOMAIN, SAMPLE

Runner = Callable[[dict[str, np.ndarray]], list[np.ndarray]]

_MOST_SESSIONS = 1024
_LARGEST_COPIED = 2 * 10**9  # bytes of weights
_LARGEST_GRAPH = 1 << 26  # bytes
_sessions: OrderedDict[tuple[Any, ...], Runner] = OrderedDict()
_lock = Lock()
onnxruntime.disable_telemetry_events()  # for a program that loaded onnxruntime first


def open_session(
    model: str | bytes, threads: int = 0, optimised: bool = True
) -> onnxruntime.InferenceSession:
    """Open a file or a serialised model in onnxruntime, on the processor and without its log.

    threads: 0 lets onnxruntime choose. optimised: it may fuse nodes and round differently, except where the
    weights outside the file exceed 2 GB: then, as where nothing is optimised, they stay mapped from their
    files, and what a node makes of a weight is dropped behind its reader. Raises onnxruntime's own many kinds
    of errors.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not optimised or (isinstance(model, str) and _bytes_outside(Path(model)) > _LARGEST_COPIED):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        # In the order of the file; by default every weight is transposed, or cast, before the first is read.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bytes_outside(path: Path) -> int:
    """The bytes of weights that a file keeps in others; 0 for one that is large itself, or no model."""
    if not path.is_file() or path.stat().st_size > _LARGEST_GRAPH:
        return 0
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError:
        return 0
    return sum(
        int(entry.value)
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "length" and entry.value.isdigit()
    )


def run_node(
    node: Node,
    inputs: Sequence[np.ndarray | None],
    opset: int,
    outer: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """The outputs of `node`, in the order of `node.outputs` (an unwanted one, "", is an empty array).

    `inputs[i]` is None where the input is absent. `outer` holds the values that the branches of an If, Loop
    or Scan read from the graph around it, by name. Cost: about 20 us for a kind of node seen before, 1 ms
    for a new one. A draw (graph/sampling.py) gives the likeliest here, which can be compared.

    Raises ModelError when the node cannot be run on these inputs.
    """
    if (node.domain, node.op) == (DOMAIN, SAMPLE) and inputs[0] is not None:
        return [np.asarray(inputs[0]).argmax(axis=-1)]
    if node.traits.of_shape and inputs[0] is not None:
        return [_of_the_shape(node, inputs[0].shape)]
    arrays = {f"i{k}": np.asarray(a) for k, a in enumerate(inputs) if a is not None}
    captured = [n for g in node.subgraphs for n in g.captured()]
    arrays.update((n, np.asarray((outer or {})[n])) for n in captured)
    key = (
        node.op,
        node.domain,
        node.version,
        opset,
        node.attribute_key,
        tuple(bool(o) for o in node.outputs),
        len(inputs),
        tuple((n, a.dtype, a.ndim) for n, a in arrays.items()),
    )
    with _lock:
        runner = _sessions.get(key)
        if runner is not None:
            _sessions.move_to_end(key)
    if runner is None:
        runner = _runner(_one_node_model(node, len(inputs), arrays, opset))
        with _lock:
            _sessions[key] = runner
            if len(_sessions) > _MOST_SESSIONS:
                _sessions.popitem(last=False)
    try:
        wanted = iter(runner(arrays))
    except Exception as e:  # onnxruntime and the reference implementation raise many kinds
        said = str(e).rsplit("Status Message: ", 1)[-1]  # before it the first node of this kind is named
        raise ModelError(f"node '{node.name}' ({node.op}) cannot be run: {said}") from e
    return [np.asarray(next(wanted)) if o else np.empty(0, np.float32) for o in node.outputs]


def run_graph(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a whole graph by name, given all its inputs (and the values it captures) by name.

    Builds a model and a session each time: for graphs run once (a folded subgraph, a test), and with
    weights that fit in a protobuf (2 GB). Raises ModelError when it cannot be run.
    """
    arrays = {n: np.asarray(a) for n, a in inputs.items()}
    declared = {n: ValueType(a.dtype, (None,) * a.ndim) for n, a in arrays.items()}
    proto = model_proto(graph_proto(graph, declared), graph.domains or {"": graph.opset})
    try:
        return dict(zip(graph.outputs, _runner(proto)(arrays), strict=True))
    except Exception as e:  # onnxruntime and the reference implementation raise many kinds
        raise ModelError(f"graph '{graph.name}' cannot be run: {e}") from e


def _of_the_shape(node: Node, shape: tuple[int, ...]) -> np.ndarray:
    """A broadcast array, of any size, for Shape and Size, which read no data."""
    if node.op == "Size":
        return np.array(np.prod(shape, dtype=np.int64))
    bounds: dict[str, Any] = dict(node.attributes)
    return np.array(shape[bounds.get("start", 0) : bounds.get("end")], np.int64)


def _one_node_model(node: Node, arity: int, arrays: Mapping[str, np.ndarray], opset: int) -> onnx.ModelProto:
    names = [f"i{k}" if f"i{k}" in arrays else "" for k in range(arity)]
    proto = node_proto(node, names)
    outputs = []
    for k, name in enumerate(node.outputs):
        # Name an unwanted piece of a Split: onnxruntime's kernel would otherwise write to nowhere.
        proto.output[k] = f"o{k}" if name or node.op == "Split" else ""
        if name:
            outputs.append(onnx.ValueInfoProto(name=f"o{k}"))
    declared = [
        onnx.helper.make_value_info(n, type_proto(ValueType(a.dtype, (None,) * a.ndim)))
        for n, a in arrays.items()
    ]
    domains = {"": opset, **({node.domain: node.version} if node.domain else {})}
    return model_proto(onnx.helper.make_graph([proto], "node", declared, outputs), domains)


def _runner(proto: onnx.ModelProto) -> Runner:
    """onnxruntime if it can run the model, otherwise the reference implementation; chosen by trying."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # not implemented, unknown or untyped: the reference implementation decides
        return _reference(proto)
    if any(o.type == "tensor(float8e4m3fn)" for o in session.get_outputs()):
        return _reference(proto)  # onnxruntime returns the bytes of these numbers
    names = [o.name for o in session.get_outputs()]
    fallback: list[Runner] = []

    def run(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        if not fallback:
            try:
                return session.run(names, arrays)
            except Exception as e:
                fallback.append(_reference(proto))
                try:
                    return fallback[0](arrays)
                except Exception:
                    fallback.clear()
                    raise e from None
        return fallback[0](arrays)

    return run


def _reference(proto: onnx.ModelProto) -> Runner:
    from onnx.reference import ReferenceEvaluator  # a fifth of a second, for rare operators

    evaluator = ReferenceEvaluator(proto)
    return lambda arrays: list(evaluator.run(None, arrays))
