"""The pieces of `tools/matrix.py`: what is exported by what, how it is run on shares, the page about it."""

from __future__ import annotations

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)
