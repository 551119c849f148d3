"""An export that copies no weight: model.onnx points into the safetensors files that it lies beside.

The model is traced without weights, and each initializer becomes external data: a place in a shard. Weights
of 16 bits keep their type in the file, and a Cast before their reader makes them single precision, in which
the nodes compute. So the export's memory does not grow with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from exporting import TraceError, onnx_file, tracing
from exporting.parts import Part, Sizes
from exporting.pieces import run_pieces
from exporting.reading import Reading
from exporting.shards import Stored
from exporting.skeleton import compute_buffers, stored_names

_TYPES = {
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "F32": ir.DataType.FLOAT,
    "F64": ir.DataType.DOUBLE,
}
# They move elements of their first input: done in the stored type, the Cast then has what is read alone.
_MOVES = ("Gather", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
_OUTER = "model."  # the name of the model within the module that is traced (causal.Cached)
_EXTENTS = {"batch": 2, "past": 5}
PROMPT, MORE = 5, 3  # words that the check runs


def trace(part: Part, sequence: int) -> ir.Model:
    """The model's graph, its weights without values. Raises TraceError."""
    extents = _EXTENTS | {"sequence": sequence, "total": sequence + _EXTENTS["past"]}
    sizes = Sizes(_EXTENTS["batch"], sequence, 0, 0, 0)
    example = []
    for axes, tensor in zip(part.axes.values(), part.example(sizes), strict=True):
        shape = [extents[axes[axis]] if axis in axes else size for axis, size in enumerate(tensor.shape)]
        example.append(torch.empty(shape, dtype=tensor.dtype, device="meta"))
    return tracing.trace(part.module, example, part.axes, part.outputs, weightless=True)


def places_of(model: Any, stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Weight or buffer of the model -> its place in the checkpoint; other buffers are computed here.

    Raises ExportError for a checkpoint that lacks one.
    """
    names = stored_names(model, {name: place.shape for name, place in stored.items()})
    compute_buffers(model, names)
    return {name: stored[held] for name, held in names.items()}


def attach(graph: ir.Graph, model: Any, places: Mapping[str, Stored]) -> None:
    """Give every initializer its values: those of a shard by their place, computed buffers themselves.

    Raises TraceError for a constant that was made on the way and has no values.
    """
    buffers = {f"{_OUTER}{name}": held for name, held in model.named_buffers() if not held.is_meta}
    for name, value in list(graph.initializers.items()):
        place = places.get(name.removeprefix(_OUTER))
        if place is not None:
            value.const_value = ir.ExternalTensor(
                place.path.name,
                place.offset,
                place.nbytes,
                _TYPES[place.dtype],
                shape=ir.Shape(place.shape),
                name=name,
                base_dir=str(place.path.parent),
            )
            if value.const_value.dtype != ir.DataType.FLOAT:
                value.dtype = value.const_value.dtype
                _cast_for_readers(graph, value)
        elif name in buffers:
            value.const_value = ir.tensor(buffers[name].contiguous().numpy(), name=name)
        elif value.const_value is None:
            raise TraceError(
                f"the graph has a constant without values, {name!r}",
                "omit --in-place, if the memory suffices",
            )


def _cast_for_readers(graph: ir.Graph, weight: ir.Value) -> None:
    for number, use in enumerate(list(weight.uses())):
        reader = use.node
        name = f"{weight.name}/single" if not number else f"{weight.name}/single_{number}"
        if use.idx == 0 and reader.op_type in _MOVES and not reader.domain:
            moved = reader.outputs[0]
            readers = list(moved.uses())
            cast = _cast(moved, name)
            moved.type = ir.TensorType(weight.dtype)  # type: ignore[arg-type]
            graph.insert_after(reader, cast)
            for inner in readers:
                inner.node.replace_input_with(inner.idx, cast.outputs[0])
        else:
            cast = _cast(weight, name)
            graph.insert_before(reader, cast)
            reader.replace_input_with(use.idx, cast.outputs[0])


def _cast(value: ir.Value, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=name)
    (made,) = node.outputs
    made.name, made.shape, made.type = name, value.shape, ir.TensorType(ir.DataType.FLOAT)
    return node


def check(path: Path, part: Part, model: Any, places: Mapping[str, Stored], seed: int) -> float:
    """Run the file on a prompt of five words, then on three more from its past, and PyTorch on the eight at
    once; return the largest difference of an output.

    Both compute in single precision, on the weights as the shards hold them, a few layers at a time. Raises
    TraceError where an output differs by more than onnx_file.TOLERANCE of its largest value, and for a file
    that cannot be checked or run.
    """
    example = part.example(Sizes(2, PROMPT + MORE, 0, 0, seed))
    with torch.no_grad(), Reading(model, places):
        expected = [tensor.numpy() for tensor in part.module(*example)]
    begun = _cut(part, example, None, slice(PROMPT))
    follows = _cut(part, example, expected[1:], slice(PROMPT, None))
    try:
        onnx.checker.check_model(str(path), full_check=True)
        first, second = run_pieces(path, [begun, follows])
    except Exception as error:  # the checker and onnxruntime raise many kinds of their own
        raise onnx_file.cannot_run(error) from error
    logits, *present = part.outputs
    apart = [
        onnx_file.difference(logits, first[logits], expected[0][:, :PROMPT], example),
        onnx_file.difference(logits, second[logits], expected[0][:, PROMPT:], example),
    ]
    for name, held in zip(present, expected[1:], strict=True):  # (batch, heads, words, width)
        apart.append(onnx_file.difference(name, first[name], held[:, :, :PROMPT], example))
        apart.append(onnx_file.difference(name, second[name], held, example))
    return max(apart)


def _cut(
    part: Part, example: Sequence[torch.Tensor], present: Sequence[np.ndarray] | None, words: slice
) -> dict[str, np.ndarray]:
    """The inputs of a run that takes these words of the example, after the past of those before."""
    feed = {}
    held = iter(present or ())
    for (name, axes), tensor in zip(part.axes.items(), example, strict=True):
        array = tensor.numpy()
        if "sequence" in axes.values():
            array = array[:, words]
        elif "total" in axes.values():
            array = array[:, : words.stop]
        elif present is not None:
            array = next(held)[:, :, : words.start]
        feed[name] = np.ascontiguousarray(array)
    return feed
