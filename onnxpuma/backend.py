"""The standard's own interface to a runtime (onnx.backend.base), so that its official tests can run.

Everything happens in this process (roles/local/memory.py): it serves conformance, not secrecy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper
from onnx.backend.base import Backend, BackendRep

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel

REALS = ("float16", "bfloat16", "float32", "float64")


class SecureRep(BackendRep):
    """A model ready to run, with as many secret inputs as its operators allow.

    Reals of 16 to 64 bits that fixed point can hold, booleans and integers (but masks) can be secret. Where
    an operator needs some of them in the clear (a shape, an exponent, a scale), they are made public one by
    one: first the integers, then the booleans, then the reals, the last input first.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            if not value.type.HasField("tensor_type"):
                raise UnsupportedModelError(
                    f"'{value.name}' is a list or an optional value",
                    "export the model with dense tensors as inputs and outputs",
                )
        self._model = model
        weights = {tensor.name for tensor in model.graph.initializer}
        self._names = [value.name for value in model.graph.input if value.name not in weights]
        self._dtypes = [
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in model.graph.output
        ]
        self._runner: MemoryModel | None = None
        # After `run`: the inputs that were shared; none where everything ran in the clear.
        self.secret: tuple[str, ...] = ()

    def run(self, inputs: Any, **_: Any) -> tuple[np.ndarray, ...]:
        """Outputs in the graph's order, in their declared types. `inputs`: in its order, or by name."""
        given: Mapping[str, Any]
        given = inputs if isinstance(inputs, Mapping) else dict(zip(self._names, inputs, strict=True))
        feed = {name: _single(np.asarray(value)) for name, value in given.items()}
        outputs = self._prepared(feed).run(feed).outputs
        return tuple(v.astype(t) for v, t in zip(outputs.values(), self._dtypes, strict=True))

    def _prepared(self, feed: Mapping[str, np.ndarray]) -> MemoryModel:
        """A runner with the largest choice of secret inputs that every operator accepts."""
        if self._runner is not None:
            return self._runner
        for names in _choices(feed):
            model = ir.serde.deserialize_model(self._model)
            public = [n for n in self._names if n not in names and feed[n].dtype.kind not in "OUS"]
            runner = MemoryModel(model, public_inputs=public, secret_inputs=names, at_client=False)
            try:
                plan = runner.plan(feed)
            except UnsupportedModelError:
                if not names:
                    raise
                continue
            self._runner, self.secret = runner, tuple(entry.name for entry in plan.inputs)
            return runner
        raise AssertionError("the last choice has no secret")


def _choices(feed: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
    """The choices of secret inputs to try, from all that shares can hold down to none."""
    held = {
        n: v.dtype.kind for n, v in feed.items() if _holds(v) and (v.dtype.kind == "f" or "mask" not in n)
    }
    order = [name for kind in "fbi" for name in held if held[name] == kind]
    for count in range(len(order), -1, -1):
        yield tuple(order[:count])


def _holds(value: np.ndarray) -> bool:
    """Whether shares can hold these values."""
    if value.dtype.name in REALS:
        return bool(np.isfinite(value).all() and np.abs(value).max(initial=0) < 2.0**40)
    return value.dtype.name in ("bool", "int32", "int64")


def _single(value: np.ndarray) -> np.ndarray:
    """Reals in single precision, as the planner reads them."""
    return value.astype(np.float32) if value.dtype.name in REALS else value


class SecureBackend(Backend):
    """onnx.backend.base.Backend on replicated shares, in memory."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> SecureRep:
        """A runnable model. Raises ModelError and UnsupportedModelError, in some cases only when it runs."""
        super().prepare(model, device)
        return SecureRep(model)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.partition(":")[0] == "CPU"


prepare = SecureBackend.prepare
run_model = SecureBackend.run_model
supports_device = SecureBackend.supports_device
