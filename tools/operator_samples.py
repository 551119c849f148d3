"""One typical use of each operator, which docs/operators.md prices and measures.

An operator on single elements needs no entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import onnxpuma.ops  # noqa: F401  (registers the operators)
from onnxpuma.ops.registry import operators
from onnxpuma.standard.operators import traits

_RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Sample:
    """Inputs by name (integers named "secret..." are secret), public floats, attributes."""

    inputs: Mapping[str, np.ndarray | None]
    public: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _reals(*shape: int, scale: float = 2.0) -> np.ndarray:
    return _RNG.normal(0, scale, shape).astype(np.float32)


_X, _Y = _reals(64, 96), _reals(64, 96)
_POSITIVE = np.abs(_X) + np.float32(0.05)
_IMAGE = _reals(2, 8, 16, 16)
_FEW = _reals(8, 32)
_TRUE, _FALSE = _X > 0, _Y > 0
_CHANNELS = {name: _reals(8, scale=0.5) for name in ("scale", "bias", "mean")}
_ANGLES = _reals(2, 16, 8)
_HEADS = {"q": _reals(2, 4, 16, 16, scale=1), "k": _reals(2, 4, 16, 16, scale=1), "v": _reals(2, 4, 16, 16)}


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


_OWN: dict[str, Sample] = {
    **{name: Sample({"x": _X}) for name in ("Dropout", "LogSoftmax", "Softmax", "Sum")},
    **{name: Sample({"secret_x": _TRUE, "secret_y": _FALSE}) for name in ("And", "Or", "Xor")},
    **{name: Sample({"x": _POSITIVE}) for name in ("Log", "Sqrt", "Reciprocal")},
    **{
        name: Sample({"x": _FEW, "axes": _ints(-1)})
        for name in [
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
        ]
    },
    **{name: Sample({"x": _FEW}, attributes={"axis": -1}) for name in ("ArgMax", "ArgMin")},
    "ReduceLogSumExp": Sample({"x": _FEW, "axes": _ints(-1)}),
    "ReduceLogSum": Sample({"x": np.abs(_FEW) + 1, "axes": _ints(-1)}),
    "Not": Sample({"secret_x": _TRUE}),
    "Where": Sample({"secret_c": _TRUE, "x": _X, "y": _Y}),
    "Cast": Sample({"secret_x": _TRUE}, attributes={"to": 1}),
    "CastLike": Sample({"secret_x": _TRUE, "like": _X}),
    "Clip": Sample({"x": _X, "low": np.float32(-1), "high": np.float32(2)}, ("low", "high")),
    "Div": Sample({"x": _FEW, "y": np.abs(_FEW[:, :1]) + 1}),
    "Pow": Sample({"x": _X, "n": np.float32(2)}, ("n",)),
    "PRelu": Sample({"x": _X, "slope": _reals(96)}),
    "MatMul": Sample({"a": _reals(32, 64, scale=1), "b": _reals(64, 48, scale=1)}),
    "Gemm": Sample({"a": _reals(32, 64, scale=1), "b": _reals(64, 48, scale=1), "c": _reals(48)}),
    "Einsum": Sample({"a": _reals(32, 64), "b": _reals(64, 48)}, attributes={"equation": "ij,jk->ik"}),
    "Conv": Sample({"x": _IMAGE, "w": _reals(8, 8, 3, 3, scale=0.3)}, attributes={"pads": [1, 1, 1, 1]}),
    "ConvTranspose": Sample(
        {"x": _IMAGE, "w": _reals(8, 8, 2, 2, scale=0.3)}, attributes={"strides": [2, 2]}
    ),
    "MaxPool": Sample({"x": _IMAGE}, attributes={"kernel_shape": [2, 2], "strides": [2, 2]}),
    "AveragePool": Sample({"x": _IMAGE}, attributes={"kernel_shape": [3, 3]}),
    "GlobalAveragePool": Sample({"x": _IMAGE}),
    "GlobalMaxPool": Sample({"x": _IMAGE}),
    "TopK": Sample({"x": _FEW, "k": _ints(4)}, attributes={"outputs": 2}),
    "ReduceProd": Sample({"x": _reals(8, 8, scale=1), "axes": _ints(-1)}),
    "Resize": Sample(
        {"x": _IMAGE, "roi": None, "s": np.array([1, 1, 2, 2], np.float32)}, ("s",), {"mode": "linear"}
    ),
    "LayerNormalization": Sample({"x": _X, "scale": _reals(96), "bias": _reals(96)}),
    "RMSNormalization": Sample({"x": _X, "scale": _reals(96)}),
    "InstanceNormalization": Sample({"x": _IMAGE, "scale": _CHANNELS["scale"], "bias": _CHANNELS["bias"]}),
    "GroupNormalization": Sample(
        {"x": _IMAGE, "scale": _CHANNELS["scale"], "bias": _CHANNELS["bias"]}, attributes={"num_groups": 2}
    ),
    "BatchNormalization": Sample({"x": _IMAGE, **_CHANNELS, "variance": np.abs(_CHANNELS["mean"]) + 0.1}),
    "Attention": Sample(_HEADS, attributes={"is_causal": 1}),
    "RotaryEmbedding": Sample(
        {"q": _HEADS["q"], "cos": np.cos(_ANGLES), "sin": np.sin(_ANGLES)}, ("cos", "sin")
    ),
    "Gather": Sample({"table": _reals(1000, 32), "secret_ids": _ints(3, 999, 0, 41)}),
    "CumSum": Sample({"x": _X, "axis": np.array(1)}),
    "Reshape": Sample({"x": _X, "shape": _ints(-1)}),
    "Flatten": Sample({"x": _IMAGE}),
    "Squeeze": Sample({"x": _X[None], "axes": _ints(0)}),
    "Unsqueeze": Sample({"x": _X, "axes": _ints(0)}),
    "Transpose": Sample({"x": _X}),
    "Expand": Sample({"x": _X, "shape": _ints(2, 64, 96)}),
    "Split": Sample({"x": _X}, attributes={"num_outputs": 2, "outputs": 2}),
    "Concat": Sample({"x": _X, "y": _Y}, attributes={"axis": 0}),
    "Slice": Sample({"x": _X, "starts": _ints(1), "ends": _ints(9)}),
    "Tile": Sample({"x": _X, "repeats": _ints(2, 1)}),
    "GatherElements": Sample({"x": _X, "indices": np.zeros((3, 96), np.int64)}),
    "GatherND": Sample({"x": _X, "indices": np.array([[1], [5]])}),
    "ScatterElements": Sample({"x": _X, "indices": np.zeros((1, 96), np.int64), "updates": _Y[:1]}),
    "ScatterND": Sample({"x": _X, "indices": np.array([[1], [5]]), "updates": _Y[:2]}),
    "DepthToSpace": Sample({"x": _IMAGE}, attributes={"blocksize": 2}),
    "SpaceToDepth": Sample({"x": _IMAGE}, attributes={"blocksize": 2}),
    "Trilu": Sample({"x": _X}),
    "Compress": Sample({"x": _X, "condition": np.arange(64) % 2 == 0}, attributes={"axis": 0}),
    "ReverseSequence": Sample({"x": _X, "lengths": np.full(96, 7)}),
    "Pad": Sample({"x": _X, "pads": _ints(1, 0, 1, 0)}),
}


def _usual(op: str) -> Sample | None:
    """Of an operator that works on single elements: on reals, as far as its rows tell."""
    rows = traits(op).rows
    return (
        Sample({"x": _X}) if rows == "each" else Sample({"x": _X, "y": _Y}) if rows == "broadcast" else None
    )


SAMPLES: dict[str, Sample] = {
    name: sample for name in operators() if (sample := _OWN.get(name) or _usual(name)) is not None
}
