"""Read an ONNX file, and refuse it with a reason when it is damaged, incomplete or not ONNX.

Weights stored outside the protobuf are never read here: they stay in their files, memory-mapped on first use,
so a model may be larger than the 2 GB a protobuf can hold, and larger than memory.
"""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message

from onnxpuma.errors import EXPORT_AGAIN, ModelError, UnsupportedModelError
from onnxpuma.graph.dialect import claim_proto, proto_graphs
from onnxpuma.graph.external import external, keep_inside
from onnxpuma.graph.hub_cache import follow_links
from onnxpuma.graph.node_order import sort_nodes

_LARGEST_CHECKED = 1 << 16


def load(path: str | os.PathLike[str]) -> ir.Model:
    """The checked model at `path`; external weights stay on disk.

    Raises ModelError (with a hint) for a file that is missing, empty, truncated or not ONNX; an IR or opset
    version newer than the installed onnx package; external data that is missing, too short, or outside the
    model's folder (also by a symbolic or hard link, unless it is one of a hub's cache); a cycle; a value that
    nothing produces; and any other defect that `onnx.checker` finds. UnsupportedModelError for sparse
    weights.
    """
    file = Path(path).absolute()
    proto = parse(file, file.name)
    claim_proto(proto)
    check(proto, file.name)
    linked = follow_links(proto, file)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as e:  # the deserialiser raises many kinds; each means that the file is unusable
        raise ModelError(f"{file.name} cannot be read as a model: {e}", EXPORT_AGAIN) from e
    keep_inside(proto, model, file, linked)
    return model


def parse(source: Path | bytes, name: str) -> onnx.ModelProto:
    """The protobuf in a file or in bytes, external data not read; `name` is for the error messages."""
    if isinstance(source, Path) and not source.is_file():
        raise ModelError(f"{source} is not a file", "give the path of an .onnx file")
    try:
        if isinstance(source, bytes):
            proto = onnx.ModelProto.FromString(source)
        elif source.stat().st_size == 0:
            raise ModelError(f"{name} is empty", EXPORT_AGAIN)
        else:  # mapped, so that weights inside the protobuf are in memory once and not twice
            with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                proto = onnx.ModelProto.FromString(memoryview(data))  # type: ignore[arg-type]
    except DecodeError as e:
        raise ModelError(f"{name} is not ONNX, or is cut short", EXPORT_AGAIN) from e
    except OSError as e:
        raise ModelError(f"cannot read {source!s}: {e.strerror or e}", "check its permissions") from e
    if not proto.ir_version or not proto.HasField("graph") or not proto.graph.output:
        raise ModelError(f"{name} is not ONNX: it contains no graph", EXPORT_AGAIN)
    if _has_broken_text(proto):
        raise ModelError(f"{name} contains a name that is not text", EXPORT_AGAIN)
    return proto


def _has_broken_text(message: Message) -> bool:
    """Whether any text is not UTF-8: protobuf then returns its bytes."""
    for field, value in message.ListFields():
        alone = isinstance(value, (str, bytes, Message))
        if field.type == field.TYPE_STRING and any(
            isinstance(v, bytes) for v in ([value] if alone else value)
        ):
            return True
        if field.message_type is not None and any(map(_has_broken_text, [value] if alone else value)):
            return True
    return False


def check(proto: onnx.ModelProto, name: str) -> None:
    """Check that the versions are readable, the weights dense, and every value produced; raise ModelError
    otherwise. Sorts the nodes where they are out of order."""
    _check_versions(proto, name)
    if any(g.sparse_initializer for g in proto_graphs(proto.graph)):
        raise UnsupportedModelError(f"{name} contains sparse weights", "store them as dense tensors")
    sort_nodes(proto.graph, name)
    for graph in proto_graphs(proto.graph):
        for tensor in graph.initializer:
            _check_inside(tensor, name)
    _check_inputs(proto.graph, name)
    try:
        onnx.checker.check_model(_without_weights(proto).SerializeToString())
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as e:
        raise ModelError(f"{name} is not valid ONNX: {_first_line(e)}", EXPORT_AGAIN) from e


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large and its external initializers as inputs: small enough for the checker."""
    # Before version 4 a weight also had to be listed among the inputs; onnxruntime does not require it.
    light = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    light.opset_import.extend(proto.opset_import)
    light.functions.extend(proto.functions)
    light.graph.name = proto.graph.name or "graph"
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(map(_typed, proto.graph.output))
    declared = {v.name for v in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() < _LARGEST_CHECKED:
            light.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(info)
    for tensor in external(light):  # in branches too: the checker looks in the current folder
        tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return light


def _check_inputs(graph: onnx.GraphProto, name: str) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        kind = value.type.WhichOneof("value")
        known = kind is not None and (kind != "tensor_type" or value.type.tensor_type.HasField("shape"))
        if not known and value.name not in constants:
            what = "no type" if kind is None else "no shape"
            raise ModelError(
                f"{name}: input '{value.name}' has {what}",
                "declare it in the file, with a name for each axis that varies: runs are planned from these",
            )


def _typed(output: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """A typed output: the checker requires a type and a shape; onnxruntime, and inference here, find them."""
    typed = onnx.ValueInfoProto()
    typed.CopyFrom(output)
    if not typed.type.WhichOneof("value"):
        typed.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    if typed.type.HasField("tensor_type"):
        typed.type.tensor_type.shape.SetInParent()
    return typed


def _check_versions(proto: onnx.ModelProto, name: str) -> None:
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{name} has IR version {proto.ir_version}; the installed onnx {onnx.__version__} "
            f"reads up to {onnx.IR_VERSION}",
            "install a newer onnx, or save the model with an older IR version",
        )
    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise ModelError(
                f"{name} uses opset {entry.version}; the installed onnx {onnx.__version__} "
                f"knows up to {newest}",
                "install a newer onnx, or export with opset 23",
            )
    if not any(entry.domain in ("", "ai.onnx") for entry in proto.opset_import):
        raise ModelError(f"{name} does not say which opset it uses", EXPORT_AGAIN)


def _check_inside(tensor: onnx.TensorProto, model: str) -> None:
    """Check that a weight stored in the protobuf has as many bytes as its dtype and shape require."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or not tensor.HasField("raw_data"):
        return
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as e:
        raise ModelError(f"{model}: weight '{tensor.name}' has no known element type", EXPORT_AGAIN) from e
    expected, found = (math.prod(tensor.dims) * bits + 7) // 8, len(tensor.raw_data)
    if min(tensor.dims, default=0) < 0 or expected != found:
        raise ModelError(
            f"{model}: weight '{tensor.name}' has {expected} bytes by its shape, but {found} are there",
            EXPORT_AGAIN,
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
