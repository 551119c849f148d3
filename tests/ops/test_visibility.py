"""Every operator of several inputs, with every choice of which of them are secret, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.ops.registry import operators

Check = Callable[[Comparison, float], None]
Feed = Mapping[str, "np.ndarray | None"]
RNG = np.random.default_rng(0)


def reals(*shape: int, low: float = -3, high: float = 3) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def truths(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2, shape).astype(bool)


X, Y = reals(3, 4), reals(4)
IMAGE, CHANNELS = reals(2, 4, 5, 5), {"scale": reals(4), "bias": reals(4)}
ANGLES = reals(2, 5, 2)
HEADS = {"q": reals(2, 2, 3, 4), "k": reals(2, 2, 5, 4), "v": reals(2, 2, 5, 4)}
PAST = {"pk": reals(2, 2, 2, 4), "pv": reals(2, 2, 2, 4)}
ROWS = np.array([[1], [0]])
CASES: list[tuple[str, Feed, dict[str, Any]]] = [
    *[(op, {"x": X, "y": Y}, {}) for op in ("Add", "Sub", "Mul", "Max", "Min", "PRelu")],
    *[(op, {"x": X, "y": Y}, {}) for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")],
    *[(op, {"x": X, "y": Y, "z": reals(3, 1)}, {}) for op in ("Max", "Min", "Sum")],
    *[(op, {"x": truths(3, 4), "y": truths(4)}, {}) for op in ("And", "Or", "Xor", "Equal")],
    ("Div", {"x": X, "y": reals(4, low=0.5)}, {}),
    ("Pow", {"x": reals(3, 4, low=0.2), "y": reals(4, low=-1.5, high=1.5)}, {}),
    ("Clip", {"x": X, "low": np.float32(-1), "high": np.float32(0.5)}, {}),
    ("Where", {"c": truths(3, 4), "x": X, "y": Y}, {}),
    ("Concat", {"x": X, "y": reals(2, 4), "z": reals(1, 4)}, {"axis": 0}),
    ("MatMul", {"x": X, "y": reals(4, 5)}, {}),
    ("MatMul", {"x": reals(2, 3, 4), "y": reals(4)}, {}),
    ("Gemm", {"x": X, "y": reals(4, 5), "c": reals(5)}, {"alpha": 0.5, "beta": 0.25}),
    ("Einsum", {"x": X, "y": reals(4, 5)}, {"equation": "ij,jk->ik"}),
    ("Conv", {"x": reals(2, 2, 7), "w": reals(3, 2, 3), "b": reals(3)}, {"strides": [2]}),
    ("Conv", {"x": IMAGE, "w": reals(4, 2, 3, 3), "b": reals(4)}, {"group": 2, "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", {"x": IMAGE, "w": reals(4, 2, 3, 3), "b": reals(2)}, {"strides": [2, 2]}),
    ("LayerNormalization", {"x": X, "scale": Y, "bias": reals(4)}, {}),
    ("RMSNormalization", {"x": X, "scale": Y}, {}),
    ("InstanceNormalization", {"x": IMAGE, **CHANNELS}, {}),
    ("GroupNormalization", {"x": IMAGE, **CHANNELS}, {"num_groups": 2}),
    (
        "BatchNormalization",
        {"x": IMAGE, **CHANNELS, "mean": reals(4), "variance": reals(4, low=0.5)},
        {},
    ),
    ("Attention", HEADS, {"is_causal": 1}),
    ("Attention", {**HEADS, "mask": reals(3, 5)}, {}),
    ("Attention", {**HEADS, "mask": None, **PAST}, {"outputs": 3}),
    ("RotaryEmbedding", {"q": reals(2, 3, 5, 4), "cos": np.cos(ANGLES), "sin": np.sin(ANGLES)}, {}),
    ("Pad", {"x": X, "pads": np.array([1, 0, 0, 2]), "value": np.float32(2.5)}, {}),
    *[
        ("ScatterND", {"x": X, "indices": ROWS, "updates": reals(2, 4)}, {"reduction": kind})
        for kind in ("none", "add", "mul", "max", "min")
    ],
    ("ScatterElements", {"x": X, "indices": ROWS, "updates": reals(2, 1)}, {}),
]
OFF = {"Pow": 2e-3, "BatchNormalization": 3e-4, "Attention": 3e-4}


def _choices() -> Iterator[Any]:
    for op, feed, attributes in CASES:
        names = [n for n, v in feed.items() if v is not None and v.dtype.kind in "fb"]
        for count in range(1, len(names) + 1):
            for hidden in combinations(names, count):
                yield pytest.param(op, feed, attributes, hidden, id=f"{op}-{'-'.join(hidden)}")


@pytest.mark.parametrize(("op", "feed", "attributes", "hidden"), list(_choices()))
def test_every_choice_of_what_is_secret(
    check: Check, op: str, feed: Feed, attributes: dict[str, Any], hidden: tuple[str, ...]
) -> None:
    named = {f"secret_{n}" if n in hidden else n: v for n, v in feed.items()}
    check(compare(op, named, public=[n for n in named if n in feed], **attributes), OFF.get(op, 1e-4))


def test_no_operator_is_left_out() -> None:
    tried = {op for op, _, _ in CASES}
    several = {name for name, entry in operators().items() if entry.secret in ("all", "any")}
    alone = {"ArgMax", "ArgMin", "Gather", "Not", "IsInf"}  # Gather: test_gather.py
    schemas = {name for name in several - alone if _inputs(name) > 1}
    assert schemas <= tried


def _inputs(name: str) -> int:
    return len(onnx.defs.get_schema(name).inputs)
