"""The cache of a model hub stores files under their hashes, and links to them under their names.

    models--NAME/blobs/HASH
    models--NAME/snapshots/REVISION/onnx/model.onnx -> ../../../blobs/HASH

Elsewhere a link out of the model's folder is refused: an ONNX file from somebody else could cause any file on
this machine to be read as a weight. Here a link may lead to the folder of the model itself, and no further.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx

from onnxpuma.graph.dialect import proto_graphs


def follow_links(proto: onnx.ModelProto, file: Path) -> dict[str, Path]:
    """Make external data that is linked beside the model, within the model's own cache, be read from its
    target.

    Changes the locations in `proto`; returns the folder of each new location. Changes nothing for a model
    that is not itself such a link, or for data whose location leaves the model's folder.
    """
    blobs = Path(os.path.realpath(file)).parent
    if not file.is_symlink() or blobs.name != "blobs" or not (blobs.parent / "snapshots").is_dir():
        return {}
    moved = {}
    for tensor in _external(proto):
        for entry in tensor.external_data:
            if entry.key != "location" or not entry.value or ".." in Path(entry.value).parts:
                continue
            data = file.parent / entry.value  # an absolute one is not a link in this folder
            target = Path(os.path.realpath(data))
            if data.is_symlink() and file.parent in data.parents and target.parent == blobs:
                entry.value = target.name
                moved[target.name] = blobs
    return moved


def _external(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in proto_graphs(proto.graph):
        tensors = list(graph.initializer)
        for attribute in (a for node in graph.node for a in node.attribute):
            tensors += [attribute.t, *attribute.tensors] if attribute.HasField("t") else attribute.tensors
        yield from (t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL)
