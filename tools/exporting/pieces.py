"""A written file in onnxruntime piece by piece: the nodes of a few layers, with their weights mapped.

One session for all would keep every page that it has read of its weights; a piece's go with its session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from exporting.shards import read_ahead

LARGEST_PIECE = 400_000_000  # bytes of weights


def run_pieces(
    path: Path, feeds: Sequence[Mapping[str, np.ndarray]], largest: int = LARGEST_PIECE
) -> list[dict[str, np.ndarray]]:
    """Every output by name, for each feed; onnxruntime may fuse nodes, and stores nothing that it makes of
    weights.

    largest: bytes of weights that a piece may have; one weight may have more. Memory: the weights of a piece,
    its largest in single precision, the values between pieces. Raises onnxruntime's own errors.
    """
    graph = onnx.load(path, load_external_data=False)
    outputs = {value.name for value in graph.graph.output}
    held = [dict(feed) for feed in feeds]
    pieces = list(_pieces(graph.graph, largest))
    last = {name: number for number, piece in enumerate(pieces) for node in piece for name in _read(node)}
    for number, piece in enumerate(pieces):
        made = [name for node in piece for name in node.output if name]
        wanted = [name for name in made if name in outputs or last.get(name, -1) > number]
        if wanted:
            session = _session(graph, piece, wanted, held[0], path.parent)
            taken = [value.name for value in session.get_inputs()]
            for values in held:
                given = {name: values[name] for name in taken}
                values.update(zip(wanted, session.run(wanted, given), strict=True))
        for values in held:
            for name in [n for n in values if n not in outputs and last.get(n, -1) <= number]:
                del values[name]
    return [{name: values[name] for name in (value.name for value in graph.graph.output)} for values in held]


def _pieces(graph: onnx.GraphProto, largest: int) -> Iterator[list[onnx.NodeProto]]:
    """The nodes, in order, cut before a weight that a piece has no room for: then activations alone, in
    single precision, go from piece to piece."""
    sizes = {tensor.name: _nbytes(tensor) for tensor in graph.initializer}
    piece: list[onnx.NodeProto] = []
    weights: set[str] = set()
    for node in graph.node:
        more = weights | (_read(node) & sizes.keys())
        if weights and more != weights and sum(sizes[name] for name in more) > largest:
            yield piece
            piece, more = [], more - weights
        piece.append(node)
        weights = more
    if piece:
        yield piece


def _nbytes(tensor: onnx.TensorProto) -> int:
    outside = {entry.key: entry.value for entry in tensor.external_data}
    return int(outside.get("length", 0)) or len(tensor.raw_data)


def _read(node: onnx.NodeProto) -> set[str]:
    """Everything that a node reads, including in its branches."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            made = {name for inner in graph.node for name in inner.output}
            read = {name for inner in graph.node for name in _read(inner)}
            own = {value.name for value in (*graph.input, *graph.initializer)}
            found |= (read | {value.name for value in graph.output}) - made - own
    return found


def _session(
    whole: onnx.ModelProto,
    piece: Sequence[onnx.NodeProto],
    wanted: Sequence[str],
    values: Mapping[str, np.ndarray],
    folder: Path,
) -> onnxruntime.InferenceSession:
    read = {name for node in piece for name in _read(node)}
    weights = [tensor for tensor in whole.graph.initializer if tensor.name in read]
    for tensor in weights:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            read_ahead(folder / place["location"], int(place["offset"]), int(place["length"]))
    given = sorted(read & values.keys())
    model = onnx.ModelProto(ir_version=whole.ir_version)
    model.opset_import.extend(whole.opset_import)
    model.functions.extend(whole.functions)
    model.graph.name = "piece"
    model.graph.node.extend(piece)
    model.graph.initializer.extend(weights)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    for name in given:
        kind = onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * values[name].ndim))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # A product then takes a weight as it is stored, where nodes one by one would transpose it first.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],
    )
