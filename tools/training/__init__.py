"""What the `train_*.py` scripts share: the blocks, the loop, the corpus, the folder a model ships in."""

from __future__ import annotations

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)
