"""Data outside an ONNX file: an owner's model may keep it in its folder; a skeleton may refer to none.

A tensor anywhere may declare that its bytes are in some file: an initializer, an attribute of a node, in a
branch, a function, a sparse tensor, the training section. By default every reader of ONNX (onnx, onnx_ir,
onnxruntime) looks for that file in the current folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from onnxpuma.errors import EXPORT_AGAIN, ModelError, UnsupportedModelError


def external(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in the message that declares external data."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in (value,) if isinstance(value, Message) else value:
            if not isinstance(item, onnx.TensorProto):
                yield from external(item)
            elif item.data_location != onnx.TensorProto.DEFAULT or item.external_data:
                yield item


def refuse_external(proto: onnx.ModelProto, name: str) -> None:
    """Raise ModelError for a model that refers to any external data. `name` is for the message."""
    tensor = next(external(proto), None)
    if tensor is not None:
        raise ModelError(
            f"{name} refers to data outside itself, for its tensor '{tensor.name}'",
            "create it again with onnxpuma; do not trust one that comes from somebody else",
        )


def keep_inside(proto: onnx.ModelProto, model: ir.Model, file: Path, linked: Mapping[str, Path]) -> None:
    """Make `model`, which was read from `proto`, read all its external data from the folder of `file`.

    linked: by location, data that lies in another folder (graph/hub_cache.py). Raises ModelError for data
    outside the folder, missing or too short, UnsupportedModelError for external data other than initializers
    and attributes of nodes.
    """
    found = list(_tensors(model))
    if len(found) != sum(t.data_location == onnx.TensorProto.EXTERNAL for t in external(proto)):
        raise UnsupportedModelError(
            f"{file.name} stores data in another file that is neither a weight nor an attribute of a node",
            "store it inside the ONNX file: onnx.save(onnx.load(SRC), DST)",
        )
    for tensor in found:
        folder = linked.get(str(tensor.location), file.parent)
        tensor.base_dir = str(folder)  # absolute: only then does onnx_ir check that data stays inside
        _check(tensor, file, folder)


def _tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    roots = [model.graph, *(function.graph for function in model.functions.values())]
    for graph in (g for root in roots for g in (root, *root.subgraphs())):
        held = [value.const_value for value in graph.initializers.values()]
        for node in graph:
            for attribute in node.attributes.values():
                if not attribute.is_ref() and attribute.type == ir.AttributeType.TENSOR:
                    held.append(attribute.value)
                elif not attribute.is_ref() and attribute.type == ir.AttributeType.TENSORS:
                    held += attribute.value
        yield from (tensor for tensor in held if isinstance(tensor, ir.ExternalTensor))


def _check(tensor: ir.ExternalTensor, file: Path, folder: Path) -> None:
    """Check that the data file lies inside `folder` and has all the bytes that dtype and shape require."""
    location = str(tensor.location)
    base = Path(os.path.realpath(folder))
    data = Path(os.path.realpath(base / location))
    inside = location and not os.path.isabs(location) and ".." not in Path(location).parts
    if not inside or base not in data.parents:
        raise ModelError(
            f"{file.name}: weight '{tensor.name}' points outside the model's folder ('{location}')",
            "put the data file beside the model (a real file, not a link) and export again",
        )
    if not data.is_file():
        raise ModelError(
            f"{file.name}: the data file '{location}' of weight '{tensor.name}' is missing",
            "copy the data file into the model's folder",
        )
    status = data.stat()
    if status.st_nlink > 1:
        raise ModelError(
            f"{file.name}: the data file '{location}' has {status.st_nlink} hard links",
            "copy it, so that the model's folder has a file of its own",
        )
    offset = tensor.offset or 0
    if tensor.length is not None and tensor.length != tensor.nbytes:
        raise ModelError(
            f"{file.name}: weight '{tensor.name}' has {tensor.nbytes} bytes by its shape, "
            f"{tensor.length} by its declared length",
            EXPORT_AGAIN,
        )
    if offset < 0 or offset + tensor.nbytes > status.st_size:
        raise ModelError(
            f"{file.name}: the data file '{location}' is too short: weight '{tensor.name}' ends at byte "
            f"{offset + tensor.nbytes}, the file at {status.st_size}",
            EXPORT_AGAIN,
        )
