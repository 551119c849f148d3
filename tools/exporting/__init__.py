"""The parts of `tools/export.py`: which model, which task, how it is traced, written and checked."""

from __future__ import annotations

import os

# As onnxpuma does, which need not be installed where models are exported: no library reports its use.
os.environ.update(ORT_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", DISABLE_SAFETENSORS_CONVERSION="1")


class ExportError(Exception):
    """An export that cannot be made; `hint` says how to resolve it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class TraceError(ExportError):
    """An export that another exporter may be able to make."""
