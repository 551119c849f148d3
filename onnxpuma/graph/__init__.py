"""The model's graph. Only this room reads ONNX; the others see plain dataclasses."""
