"""The model's graph. Only this room reads ONNX; the others see plain dataclasses."""

from __future__ import annotations

from onnxpuma.graph.light_import import import_onnx_ir

import_onnx_ir()
