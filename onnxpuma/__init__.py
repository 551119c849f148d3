"""Run an ONNX Transformer on three servers that learn neither the model nor the data."""

__version__ = "0.1.0"
