"""The common parts of the `train_*.py` scripts: the blocks, the loop, the corpus, the folder a model ships
in."""

from __future__ import annotations

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)
