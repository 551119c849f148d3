"""Run an ONNX Transformer on three servers that learn neither the model nor the data.

Importing this package disables the telemetry of the libraries it uses, in this process and its children.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxpuma import errors, tasks
    from onnxpuma.plan.noise.wish import OutputNoise
    from onnxpuma.roles.client.async_client import AsyncClient
    from onnxpuma.roles.client.client import Client
    from onnxpuma.roles.owner.price import price
    from onnxpuma.session import InferenceSession

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "InferenceSession",
    "OutputNoise",
    "__version__",
    "errors",
    "price",
    "tasks",
]

# onnxruntime would send node names and error texts to a collector, and keep them in a database in the user's
# cache; huggingface_hub counts what is loaded; transformers asks its hub to convert checkpoints. Each reads
# its variable when it is imported.
_NO_TELEMETRY = (
    "ORT_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_TELEMETRY",
    "DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
    "DISABLE_SAFETENSORS_CONVERSION",
)
if "onnxruntime" in sys.modules and os.environ.get(_NO_TELEMETRY[0]) != "1":
    warnings.warn(
        "onnxruntime was imported before onnxpuma, which can then not disable its telemetry: import onnxpuma "
        f"first, or start Python with {_NO_TELEMETRY[0]}=1",
        RuntimeWarning,
        stacklevel=2,
    )
os.environ.update(dict.fromkeys(_NO_TELEMETRY, "1"))

_FACES = {
    "AsyncClient": "onnxpuma.roles.client.async_client",
    "Client": "onnxpuma.roles.client.client",
    "InferenceSession": "onnxpuma.session",
    "OutputNoise": "onnxpuma.plan.noise.wish",
    "price": "onnxpuma.roles.owner.price",
}
_ROOMS = ("errors", "tasks")


def __getattr__(name: str) -> Any:
    """Import the names above when they are first used: a server needs none of them."""
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _FACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FACES[name]), name)


def __dir__() -> list[str]:
    """The names above too, for completion in a shell or a notebook."""
    return sorted({*globals(), *__all__})
