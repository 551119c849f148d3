"""ONNX files of a checkpoint, made by tools/export.py, or adapted from those in a package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

EXPORT = Path(__file__).resolve().parents[2] / "tools" / "export.py"


class ExportError(Exception):
    """tools/export.py could not make the files."""


def exported(source: Path, task: str, folder: Path) -> None:
    """Export a checkpoint (a folder, or a GGUF file) into `folder`, which appears only when it is complete.

    Takes a minute or several; needs the extra `export`. Raises ExportError.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _export(source, task, part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def exported_in_place(folder: Path, task: str) -> None:
    """Export a checkpoint beside its own weights, none of which is copied. Raises ExportError, and leaves no
    model.onnx then."""
    try:
        _export(folder, task, folder)
    except ExportError:
        (folder / "model.onnx").unlink(missing_ok=True)
        raise


def _export(source: Path, task: str, out: Path) -> None:
    print(f"exporting {source.name} ...", file=sys.stderr)
    command = [sys.executable, str(EXPORT), "--model", str(source), "--task", task, "--out", str(out)]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise ExportError(f"tools/export.py could not export {source.name}: see above")


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the rounding of activations from an int8 graph, in place: x -> DynamicQuantizeLinear ->
    MatMulInteger becomes a product of x with the numbers that the int8 weights represent, before their
    scale."""
    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    known |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    made: dict[str, onnx.TensorProto] = {"one": numpy_helper.from_array(np.float32(1), "one")}
    nodes = []
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
            nodes.append(helper.make_node("Identity", ["one"], [node.output[1]]))
        elif node.op_type == "MatMulInteger":
            weight, name = node.input[1], f"{node.input[1]}_as_float"
            if name not in made:
                zero = numpy_helper.to_array(known[node.input[3]]).astype(np.float32) if node.input[3:] else 0
                values = numpy_helper.to_array(known[weight]).astype(np.float32) - zero
                made[name] = numpy_helper.from_array(values.astype(np.float32), name)
            nodes.append(helper.make_node("MatMul", [node.input[0], name], [node.output[0]]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(made.values())
    del graph.value_info[:]  # it declares the types of integers that no longer exist
    return model
