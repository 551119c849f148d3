"""Trained numbers and short vectors in arithmetic: secret, right, and no dearer than declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

OnShares = Callable[..., Any]
Constants = dict[str, Any]
Nodes = list[onnx.NodeProto]

RNG = np.random.default_rng(6)
WIDTH = 48


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    given = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, given, [output], **attributes)


def reals(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


X = reals(5, WIDTH)
POSITIVE = np.abs(X) + np.float32(0.5)
NUMBERS = {
    "a number": np.float32(0.3719),
    "a negative number": np.float32(-1.937),
    "a large number": np.float32(250.31),
    "a small number": np.float32(0.0417),
    "a vector of one": np.array([2.713], np.float32),
    "a vector": reals(WIDTH) + np.float32(0.01),
    "a column": reals(5, 1) + np.float32(0.01),
    "a vector in the thousands": np.abs(reals(WIDTH, scale=3e4)) + 1,
}


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_with_a_secret_number(on_shares: OnShares, op: str, kind: str) -> None:
    x = X if op != "Div" else X * np.float32(np.abs(NUMBERS[kind]).max())
    ran = on_shares([node(op, "x c", "y")], {"c": NUMBERS[kind]}, {"x": x})
    assert ran.error < 1e-4
    if op == "Div":  # the owner computes one over the divisor
        assert ran.operators == ["Mul"]


@pytest.mark.parametrize("op", ["Sub", "Div"])
@pytest.mark.parametrize("kind", [k for k in NUMBERS if k != "a small number"])
def test_a_secret_number_on_the_left(on_shares: OnShares, op: str, kind: str) -> None:
    assert on_shares([node(op, "c x", "y")], {"c": NUMBERS[kind]}, {"x": POSITIVE}).error < 1e-4


@pytest.mark.parametrize("op", ["Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_a_secret_threshold(on_shares: OnShares, op: str, kind: str) -> None:
    nodes = [node(op, "x c", "b"), node("Cast", "b", "d", to=TensorProto.FLOAT), node("Add", "d one", "y")]
    assert on_shares(nodes, {"c": NUMBERS[kind], "one": np.float32(1)}, {"x": X}).error < 1e-6


OTHERS: dict[str, tuple[Nodes, Constants]] = {
    "the slope of PRelu": ([node("PRelu", "x c", "y")], {"c": np.float32(0.2513)}),
    "a small slope": ([node("PRelu", "x c", "y")], {"c": np.array([0.0107], np.float32)}),
    "a slope for each": ([node("PRelu", "x c", "y")], {"c": reals(WIDTH)}),
    "a slope by Max": (
        [node("Mul", "x c", "below"), node("Max", "below x", "y")],
        {"c": np.float32(0.0113)},
    ),
    "ReZero": ([node("Mul", "x c", "part"), node("Add", "part x", "y")], {"c": np.float32(0.0371)}),
    "LayerScale": ([node("Mul", "x c", "part"), node("Add", "part x", "y")], {"c": reals(WIDTH, scale=1e-5)}),
    "the logit scale of CLIP": (
        [node("Exp", "c", "s"), node("MatMul", "x c2", "m"), node("Mul", "m s", "y")],
        {"c": np.float32(4.6052), "c2": reals(WIDTH, 5, scale=0.1)},
    ),
    "a temperature": (
        [node("Div", "x c", "m"), node("Softmax", "m", "y")],
        {"c": np.float32(0.0731)},
    ),
    "a bias of one element": (
        [node("MatMul", "x c2", "m"), node("Add", "m c", "y")],
        {"c": np.array([0.3717], np.float32), "c2": reals(WIDTH, 1)},
    ),
    "a bias of one element in Gemm": (
        [node("Gemm", "x c2 c", "y")],
        {"c": np.array([0.3717], np.float32), "c2": reals(WIDTH, 1)},
    ),
    "both bounds of Clip": (
        [node("Clip", "x c c2", "y")],
        {"c": np.float32(-0.731), "c2": np.float32(0.617)},
    ),
    "one bound of Clip": ([node("Clip", "x c -", "y")], {"c": np.float32(-0.731)}),
    "what Where chooses": (
        [node("Less", "x c", "b"), node("Where", "b c2 c3", "y")],
        {"c": np.float32(-0.731), "c2": np.float32(0.617), "c3": np.float32(0.0123)},
    ),
    "what Where puts in place": (
        [node("Less", "x c", "b"), node("Where", "b c2 x", "y")],
        {"c": np.float32(-0.731), "c2": reals(WIDTH)},
    ),
    "which are kept, by Where": (
        [node("Where", "c x c2", "y")],
        {"c": RNG.random(WIDTH) < 0.5, "c2": np.float32(0.371)},
    ),
    "which are kept, by a product": (
        [node("Cast", "c", "kept", to=TensorProto.FLOAT), node("Mul", "x kept", "y")],
        {"c": RNG.random(WIDTH) < 0.5},
    ),
    "which are kept, among others": (
        [node("Greater", "x c2", "b"), node("And", "b c", "d"), node("Where", "d x c2", "y")],
        {"c": RNG.random(WIDTH) < 0.5, "c2": np.float32(0.131)},
    ),
    "what is padded": (
        [node("Pad", "x pads c", "y")],
        {"pads": np.array([0, 1, 0, 2]), "c": np.float32(0.37)},
    ),
    "means and deviations": (
        [node("Sub", "x c", "d"), node("Div", "d c2", "y")],
        {"c": reals(WIDTH), "c2": np.abs(reals(WIDTH)) + np.float32(0.2)},
    ),
    "a Gaussian": (
        [
            node("Sub", "x c", "d"),
            node("Mul", "d d", "square"),
            node("Div", "square c2", "q"),
            node("Neg", "q", "n"),
            node("Exp", "n", "y"),
        ],
        {"c": reals(WIDTH), "c2": np.abs(reals(WIDTH)) + np.float32(0.3)},
    ),
    "Sum": ([node("Sum", "x c c2", "y")], {"c": np.float32(0.371), "c2": reals(WIDTH)}),
    "a row more": ([node("Concat", "x c", "y", axis=0)], {"c": reals(1, WIDTH)}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_where_a_trained_number_stands(on_shares: OnShares, kind: str) -> None:
    nodes, constants = OTHERS[kind]
    ran = on_shares(nodes, constants, {"x": X}, secret=["c*"])
    assert ran.error < 1e-4
    assert not ran.public & {"c", "c2", "c3"}


@pytest.mark.parametrize("exponent", [0.37, 2.31, -0.73, 2.0])
def test_a_secret_exponent(on_shares: OnShares, exponent: float) -> None:
    ran = on_shares([node("Pow", "x c", "y")], {"c": np.float32(exponent)}, {"x": POSITIVE})
    assert ran.error < 1e-4


def test_a_secret_base(on_shares: OnShares) -> None:
    assert on_shares([node("Pow", "c x", "y")], {"c": np.float32(1.73)}, {"x": X}).error < 1e-4
