"""The parts of `tools/matrix.py`: the exports and their exporters, the runs on shares, the page about
them."""

from __future__ import annotations

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)
