"""The standard's own face for a runtime (onnx.backend.base), so that its official tests can be run.

Everything happens in this process (roles/memory.py): it is for conformance, not for secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper
from onnx.backend.base import Backend, BackendRep

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.memory import MemoryModel


class SecureRep(BackendRep):
    """A model ready to run. Float inputs are secret and integers public, unless they index a table; where an
    operator needs a parameter in the clear (an exponent, a scale), the last floats are public, and so are
    masks of minus infinity, which fixed point cannot hold."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        weights = {tensor.name for tensor in model.graph.initializer}
        self._names = [value.name for value in model.graph.input if value.name not in weights]
        self._dtypes = [
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in model.graph.output
        ]
        self._runner: MemoryModel | None = None

    def run(self, inputs: Any, **_: Any) -> tuple[np.ndarray, ...]:
        """Outputs in the graph's order, in their declared types. `inputs`: in that order, or by name."""
        given: Mapping[str, Any]
        given = inputs if isinstance(inputs, Mapping) else dict(zip(self._names, inputs, strict=True))
        feed = {name: _single(np.asarray(value)) for name, value in given.items()}
        outputs = self._prepared(feed).run(feed).outputs
        return tuple(v.astype(t) for v, t in zip(outputs.values(), self._dtypes, strict=True))

    def _prepared(self, feed: Mapping[str, np.ndarray]) -> MemoryModel:
        if self._runner is None:
            first = next(iter(feed), "")
            floats = [n for n, v in feed.items() if v.dtype.kind == "f" and (n == first or _holds(v))]
            others = [name for name in feed if name not in floats]
            self._runner = self._most_secret(feed, floats, others)
        return self._runner

    def _most_secret(
        self, feed: Mapping[str, np.ndarray], floats: Sequence[str], others: Sequence[str]
    ) -> MemoryModel:
        """All floats secret, or as many of them from the first as the operator takes."""
        for count in range(len(floats), 1, -1):
            runner = self._shared([*others, *floats[count:]])
            try:
                runner.plan(feed)
            except UnsupportedModelError:
                continue
            return runner
        return self._shared([*others, *floats[1:]])

    def _shared(self, public: Sequence[str]) -> MemoryModel:
        model = ir.serde.deserialize_model(self._model)
        hidden = [name for name in self._names if name not in public]
        return MemoryModel(model, public_inputs=public, secret_inputs=hidden, at_client=False)


def _holds(value: np.ndarray) -> bool:
    """Whether fixed point can hold these numbers."""
    return bool(np.isfinite(value).all() and np.abs(value).max(initial=0) < 2.0**40)


def _single(value: np.ndarray) -> np.ndarray:
    """Floats of every kind as single precision, as the planner reads them."""
    return value if value.dtype.kind in "iubOUS" else value.astype(np.float32)


class SecureBackend(Backend):
    """onnx.backend.base.Backend on replicated shares, in memory."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> SecureRep:
        """A runnable model. Raises ModelError and UnsupportedModelError, some of them only when it is run."""
        super().prepare(model, device)
        return SecureRep(model)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.partition(":")[0] == "CPU"


prepare = SecureBackend.prepare
run_model = SecureBackend.run_model
supports_device = SecureBackend.supports_device
