"""Run an ONNX Transformer on three servers that learn neither the model nor the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxpuma.roles.client import Client
    from onnxpuma.session import InferenceSession

__version__ = "0.1.0"

__all__ = ["Client", "InferenceSession", "__version__"]

_FACES = {"Client": "onnxpuma.roles.client", "InferenceSession": "onnxpuma.session"}


def __getattr__(name: str) -> Any:
    """The names above are imported when they are asked for: a server needs none of them."""
    if name not in _FACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_FACES[name]), name)
