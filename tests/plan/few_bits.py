"""Nodes and arrays for weights that are stored as integers of few bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

OnShares = Callable[..., Any]

Constants = dict[str, Any]

Nodes = list[onnx.NodeProto]

RNG = np.random.default_rng(5)

WIDTH = 48

SHAPES = ("shape", "axes", "at")

COLUMNS = 200  # more numbers than are folded by default

ROWS = np.array([[3, 0, 49, 3]])


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def reals(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def scales(*shape: int) -> np.ndarray:
    return RNG.uniform(0.001, 0.02, shape).astype(np.float32)


def integers(low: int, high: int, *shape: int, dtype: Any = np.int8) -> np.ndarray:
    return RNG.integers(low, high, shape).astype(dtype)


CAST = node("Cast", "q", "real", to=TensorProto.FLOAT)

PRODUCT = node("MatMul", "x w", "y")

UNPACKED = node("Cast", "four", "real", to=TensorProto.FLOAT)

SHIFTED = [node("Sub", "real zero", "centred"), node("Mul", "centred s", "w"), PRODUCT]

BYTES = integers(0, 256, WIDTH // 2, COLUMNS, dtype=np.uint8)

SCALED: Constants = {"zero": np.float32(8), "s": scales(COLUMNS)}

WEIGHTS: dict[str, tuple[Nodes, Constants]] = {
    "int8, one scale": (
        [CAST, node("Mul", "real s", "w"), PRODUCT],
        {"q": integers(-128, 128, WIDTH, COLUMNS), "s": np.float32(0.0031)},
    ),
    "int8, few numbers": (
        [CAST, node("Mul", "real s", "w"), PRODUCT],
        {"q": integers(-128, 128, WIDTH, 5), "s": np.float32(0.0031)},
    ),
    "uint8, a scale and a zero point for each column": (
        [CAST, *SHIFTED],
        {
            "q": integers(0, 256, WIDTH, COLUMNS, dtype=np.uint8),
            "zero": integers(100, 150, COLUMNS).astype(np.float32),
            "s": scales(COLUMNS),
        },
    ),
    "int32, the zero point taken off as an integer": (
        [node("Sub", "q zero", "i"), node("Cast", "i", "real", to=1), node("Mul", "real s", "w"), PRODUCT],
        {
            "q": integers(0, 256, WIDTH, COLUMNS, dtype=np.int32),
            "zero": np.int32(131),
            "s": np.float32(0.0031),
        },
    ),
    "DequantizeLinear, int8": (
        [node("DequantizeLinear", "q s zero", "w", axis=1), PRODUCT],
        {"q": integers(-128, 128, WIDTH, COLUMNS), "s": scales(COLUMNS), "zero": np.zeros(COLUMNS, np.int8)},
    ),
    "DequantizeLinear, uint4 in blocks": (
        [node("DequantizeLinear", "q s zero", "w", axis=0, block_size=16), PRODUCT],
        {
            "q": integers(0, 16, WIDTH, COLUMNS, dtype=ml_dtypes.uint4),
            "s": scales(3, COLUMNS),
            "zero": integers(0, 16, 3, COLUMNS, dtype=ml_dtypes.uint4),
        },
    ),
    "DequantizeLinear, int4 that was put together": (
        [
            node("Concat", "q q2", "both", axis=0),
            node("DequantizeLinear", "both s", "w", axis=0, block_size=16),
            PRODUCT,
        ],
        {
            "q": integers(-8, 8, 32, COLUMNS),
            "q2": integers(-8, 8, 16, COLUMNS),
            "s": scales(3, COLUMNS),
        },
    ),
    "four bits by masking and shifting": (
        [
            node("BitwiseAnd", "q low", "lower"),
            node("BitShift", "q by", "upper", direction="RIGHT"),
            node("Concat", "lower upper", "four", axis=0),
            UNPACKED,
            *SHIFTED,
        ],
        {"q": BYTES, "low": np.uint8(15), "by": np.uint8(4), **SCALED},
    ),
    "four bits by dividing, side by side": (
        [
            node("Div", "q sixteen", "upper"),
            node("Mod", "q sixteen", "lower"),
            node("Unsqueeze", "lower at", "l"),
            node("Unsqueeze", "upper at", "u"),
            node("Concat", "l u", "pairs", axis=1),
            node("Reshape", "pairs shape", "four"),
            UNPACKED,
            *SHIFTED,
        ],
        {
            "q": BYTES.astype(np.int32),
            "sixteen": np.int32(16),
            "at": np.array([1]),
            "shape": np.array([WIDTH, COLUMNS]),
            **SCALED,
        },
    ),
    "four bits as real numbers, by Floor": (
        [
            CAST,
            node("Div", "real sixteen", "part"),
            node("Floor", "part", "upper"),
            node("Mul", "upper sixteen", "off"),
            node("Sub", "real off", "lower"),
            node("Concat", "lower upper", "both", axis=0),
            node("Sub", "both zero", "centred"),
            node("Mul", "centred s", "w"),
            PRODUCT,
        ],
        {"q": BYTES, "sixteen": np.float32(16), **SCALED},
    ),
    "a codebook": (
        [node("Gather", "book q", "w"), PRODUCT],
        {"q": integers(0, 16, WIDTH, COLUMNS, dtype=np.int64), "book": reals(16)},
    ),
    "signs": (
        [node("Where", "q up down", "w"), PRODUCT],
        {"q": RNG.random((WIDTH, COLUMNS)) < 0.5, "up": np.float32(0.0837), "down": np.float32(-0.0837)},
    ),
    "a pruning mask, cast": (
        [CAST, node("Mul", "dense real", "w"), PRODUCT],
        {"q": RNG.random((WIDTH, COLUMNS)) < 0.5, "dense": reals(WIDTH, COLUMNS)},
    ),
    "a pruning mask, by Where": (
        [node("Where", "q dense nothing", "w"), PRODUCT],
        {"q": RNG.random((WIDTH, 7)) < 0.5, "dense": reals(WIDTH, 7), "nothing": np.float32(0)},
    ),
    "a weight in two factors": (
        [node("MatMul", "q right", "w"), PRODUCT],
        {"q": reals(WIDTH, 4), "right": reals(4, COLUMNS)},
    ),
    "a weight normalised": (
        [
            node("ReduceL2", "q axes", "norm"),
            node("Div", "q norm", "unit"),
            node("Mul", "unit s", "w"),
            PRODUCT,
        ],
        {"q": reals(WIDTH, COLUMNS), "axes": np.array([0]), "s": reals(COLUMNS)},
    ),
}
