"""Read an ONNX file, and refuse it with a reason when it is damaged, incomplete or not ONNX.

Weights stored outside the protobuf are never read here: they stay in their files, memory-mapped on first
use, so a model may be larger than the 2 GB a protobuf can hold, and larger than memory.
"""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, Message

from onnxpuma.errors import ModelError, UnsupportedModelError
from onnxpuma.graph.dialect import claim_proto, proto_graphs
from onnxpuma.graph.external import external, keep_inside

_LARGEST_CHECKED = 1 << 16
_EXPORT_AGAIN = "the file is damaged or incomplete: copy or export it again"


def load(path: str | os.PathLike[str]) -> ir.Model:
    """The checked model at `path`; external weights stay on disk.

    Raises ModelError (with a hint) for a file that is missing, empty, truncated or not ONNX; an IR or opset
    version newer than the installed onnx package; external data that is missing, too short, or outside the
    model's folder (symbolic and hard links out of it included); a cycle; a value that nothing produces; and
    whatever else `onnx.checker` finds. Raises UnsupportedModelError for sparse weights.
    """
    file = Path(path).absolute()
    proto = parse(file, file.name)
    claim_proto(proto)
    check(proto, file.name)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as e:  # the deserialiser raises many kinds; each means that the file cannot be used
        raise ModelError(f"{file.name} cannot be read as a model: {e}", _EXPORT_AGAIN) from e
    keep_inside(proto, model, file)
    return model


def parse(source: Path | bytes, name: str) -> onnx.ModelProto:
    """The protobuf in a file or in bytes, external data left where it is; `name` is for the error
    messages."""
    if isinstance(source, Path) and not source.is_file():
        raise ModelError(f"{source} is not a file", "give the path of an .onnx file")
    try:
        if isinstance(source, bytes):
            proto = onnx.ModelProto.FromString(source)
        elif source.stat().st_size == 0:
            raise ModelError(f"{name} is empty", _EXPORT_AGAIN)
        else:  # mapped, so that weights inside the protobuf are held once and not twice
            with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                proto = onnx.ModelProto.FromString(memoryview(data))  # type: ignore[arg-type]
    except DecodeError as e:
        raise ModelError(f"{name} is not ONNX, or is cut short", _EXPORT_AGAIN) from e
    except OSError as e:
        raise ModelError(f"cannot read {source!s}: {e.strerror or e}", "check its permissions") from e
    if not proto.ir_version or not proto.HasField("graph") or not proto.graph.output:
        raise ModelError(f"{name} is not ONNX: it holds no graph", _EXPORT_AGAIN)
    if _has_broken_text(proto):
        raise ModelError(f"{name} holds a name that is no text", _EXPORT_AGAIN)
    return proto


def _has_broken_text(message: Message) -> bool:
    """Whether a text anywhere is not UTF-8: protobuf then hands out its bytes."""
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
    """Versions that can be read, dense weights, and every value defined before it is used; ModelError
    otherwise."""
    _check_versions(proto, name)
    if any(g.sparse_initializer for g in proto_graphs(proto.graph)):
        raise UnsupportedModelError(f"{name} holds sparse weights", "store them as dense tensors")
    _check_order(proto.graph, set(), name)
    for graph in proto_graphs(proto.graph):
        for tensor in graph.initializer:
            _check_inside(tensor, name)
    try:
        onnx.checker.check_model(_without_weights(proto).SerializeToString())
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as e:
        raise ModelError(f"{name} is not valid ONNX: {_first_line(e)}", _EXPORT_AGAIN) from e


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large and its external initializers as inputs: what the checker can afford."""
    light = onnx.ModelProto(ir_version=proto.ir_version)
    light.opset_import.extend(proto.opset_import)
    light.functions.extend(proto.functions)
    light.graph.name = proto.graph.name or "graph"
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(proto.graph.output)
    declared = {v.name for v in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() < _LARGEST_CHECKED:
            light.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(info)
    for tensor in external(light):  # in attributes and branches: the checker looks for them where we stand
        tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return light


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
        raise ModelError(f"{name} does not say which opset it uses", _EXPORT_AGAIN)


def _check_order(graph: onnx.GraphProto, outer: set[str], model: str) -> None:
    """Every value is defined before it is read; says whether it never is, is later, or depends on itself."""
    known = outer | {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    produced_by = {out: node for node in graph.node for out in node.output}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                _refuse_input(graph, node, name, produced_by, model)
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs:
                _check_order(inner, known, model)
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"{model}: nothing produces the output '{value.name}'", _EXPORT_AGAIN)


def _refuse_input(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    name: str,
    produced_by: dict[str, onnx.NodeProto],
    model: str,
) -> None:
    reader = f"{node.op_type} node '{node.name or node.output[0]}'"
    if name not in produced_by:
        raise ModelError(
            f"{model}: {reader} reads '{name}', which is no input, initializer or output of a node",
            "a weight is missing from the file: export it again",
        )
    seen: set[str] = set()
    todo = [name]
    while todo:
        value = todo.pop()
        if value in node.output:
            raise ModelError(f"{model}: {reader} needs its own output through '{name}'", "remove the cycle")
        if value in produced_by and value not in seen:
            seen.add(value)
            todo += produced_by[value].input
    raise ModelError(
        f"{model}: {reader} reads '{name}' before the node that produces it",
        "sort the nodes: python -c 'import onnx_ir as ir; m = ir.load(SRC); m.graph.sort(); ir.save(m, DST)'",
    )


def _check_inside(tensor: onnx.TensorProto, model: str) -> None:
    """A weight stored as bytes in the protobuf has as many as its dtype and shape ask for."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or not tensor.HasField("raw_data"):
        return
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as e:
        raise ModelError(f"{model}: weight '{tensor.name}' has no known element type", _EXPORT_AGAIN) from e
    expected, found = (math.prod(tensor.dims) * bits + 7) // 8, len(tensor.raw_data)
    if min(tensor.dims, default=0) < 0 or expected != found:
        raise ModelError(
            f"{model}: weight '{tensor.name}' has {expected} bytes by its shape, but holds {found}",
            _EXPORT_AGAIN,
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
