"""Make the files named `*-fused-*`: models of this folder after onnxruntime's optimiser for transformers.

`python tests/graph/data/make_fused.py`, after make.py. Needs sympy, which that optimiser imports.
"""

from __future__ import annotations

from pathlib import Path

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)

# isort: split
from onnxruntime.transformers.optimizer import optimize_model

HERE = Path(__file__).parent
MODELS = {"bert-torchscript-14": "bert", "gpt2-torchscript-17": "gpt2", "llama-torchscript-17": "gpt2"}

if __name__ == "__main__":
    for name, kind in MODELS.items():
        source = HERE / f"{name}.onnx"
        made = optimize_model(str(source), model_type=kind, num_heads=2, hidden_size=8, opt_level=0)
        made.save_model_to_file(str(HERE / f"{name.replace('torchscript', 'fused')}.onnx"))
