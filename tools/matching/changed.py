"""Changes to an exported file: fused by onnxruntime's optimizer, or weights converted to int8.

    python tools/matching/changed.py --how fused --kind gpt2 --source FOLDER --out OUT
    python tools/matching/changed.py --how int8 --source FOLDER --out OUT

An int8 file gets a float one beside it, in OUT/reference, with the weights that the integers represent: on
shares activations stay real numbers, while onnxruntime rounds them to eight bits at every product.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)

# isort: split
import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers import optimizer

from matching.combinations import REFERENCE


def fused(source: Path, out: Path, kind: str) -> None:
    """onnxruntime.transformers.optimizer: whole blocks become nodes of com.microsoft."""
    made = optimizer.optimize_model(str(source), model_type=kind, num_heads=4, hidden_size=64, opt_level=0)
    made.save_model_to_file(str(out))


def int8(source: Path, out: Path) -> None:
    """onnxruntime.quantization.quantize_dynamic, and the float model with the same weights."""
    quantize_dynamic(str(source), str(out))
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer}
    model = onnx.load(source)
    turned = {node.input[1] for node in model.graph.node if node.op_type == "Gemm" and _transposes(node)}
    for tensor in model.graph.initializer:
        integers = held.get(f"{tensor.name}_quantized")
        if integers is not None:
            scale, zero = held[f"{tensor.name}_scale"], held[f"{tensor.name}_zero_point"]
            real = (integers.astype(np.float32) - zero.astype(np.float32)) * scale
            real = real.T if tensor.name in turned else real  # its Gemm has become a MatMul
            tensor.CopyFrom(numpy_helper.from_array(real.astype(np.float32), tensor.name))
    (out.parent / REFERENCE).mkdir(exist_ok=True)
    onnx.save(model, out.parent / REFERENCE / out.name)


def _transposes(gemm: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in gemm.attribute)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--how", choices=["fused", "int8"], required=True)
    parser.add_argument("--kind", default="bert", help="model_type of onnxruntime's optimizer")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(options.source.glob("*.onnx")):
        if options.how == "fused":
            fused(path, options.out / path.name, options.kind)
        else:
            int8(path, options.out / path.name)
    shutil.copy(options.source / "config.json", options.out)


if __name__ == "__main__":
    main()
