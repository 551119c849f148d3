"""Masks of every kind, public or secret: no number overflows, and masked positions get no weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxpuma.check.single import compare, plain
from onnxpuma.roles.local.memory import MemoryModel

RNG = np.random.default_rng(0)
SCORES = RNG.normal(0, 3, (2, 5, 5)).astype(np.float32)
Q, K, V = (RNG.normal(0, 1, (1, 2, 5, 8)).astype(np.float32) for _ in range(3))
KEEP = np.array([True, False, True, True, False])
LOWS = [-1e4, -1e9, float(np.finfo(np.float32).min), -np.inf]

# name -> the nodes that put a mask on the scores s; c: the positions that are kept
MASKS = {
    "chosen": [("Where", "c s low", "m")],
    "chosen the other way": [("Not", "c", "d"), ("Where", "d low s", "m")],
    "added choice": [("Where", "c zero low", "a"), ("Add", "s a", "m")],
    "added product": [("Cast", "c", "f"), ("Sub", "one f", "g"), ("Mul", "g low", "a"), ("Add", "s a", "m")],
    "product taken off": [
        ("Cast", "c", "f"),
        ("Sub", "one f", "g"),
        ("Mul", "g high", "a"),
        ("Sub", "s a", "m"),
    ],
}


def _nodes(steps: list[tuple[str, str, str]]) -> list[onnx.NodeProto]:
    extra = {"Cast": {"to": 1}, "Softmax": {"axis": -1}, "Transpose": {"perm": [0, 1, 3, 2]}}
    return [helper.make_node(op, i.split(), [o], name=f"{op}_{o}", **extra.get(op, {})) for op, i, o in steps]


def _error(steps: list[tuple[str, str, str]], feed: dict[str, Any], low: float, public: list[str]) -> float:
    constants = {"low": low, "high": -low, "zero": 0.0, "one": 1.0}
    read = {name for _, inputs, _ in steps for name in inputs.split()}
    graph = helper.make_graph(
        _nodes(steps),
        "masked",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in feed.items()
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(v), n) for n, v in constants.items() if n in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    hidden = [name for name in feed if name not in public]
    runner = MemoryModel(model, public_inputs=public, secret_inputs=hidden, at_client=False)
    return float(np.abs(runner.run(feed).outputs["y"] - plain(model, feed)[0]).max())


@pytest.mark.parametrize("public", [["c"], []], ids=["public mask", "secret mask"])
@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize("kind", MASKS)
def test_scores_under_a_softmax(kind: str, low: float, public: list[str]) -> None:
    if np.isinf(low) and "product" in kind:
        return  # zero times infinity is NaN in the clear as well
    steps = [*MASKS[kind], ("Softmax", "m", "y")]
    assert _error(steps, {"s": SCORES, "c": KEEP}, low, public) < 1e-4


@pytest.mark.parametrize("public", [["c"], []], ids=["public mask", "secret mask"])
@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize("kind", ["chosen", "added choice", "added product"])
def test_scores_of_an_attention(kind: str, low: float, public: list[str]) -> None:
    if np.isinf(low) and "product" in kind:
        return
    scores = [("Transpose", "k", "t"), ("MatMul", "q t", "s")]
    steps = [*scores, *MASKS[kind], ("Softmax", "m", "p"), ("MatMul", "p v", "y")]
    assert _error(steps, {"q": Q, "k": K, "v": V, "c": KEEP[None, None, None]}, low, public) < 1e-4


@pytest.mark.parametrize("low", [True, -1e4, -400.0, -(2.0**20)])
def test_the_mask_input_of_attention_may_be_secret(low: float) -> None:
    mask = KEEP if low is True else np.where(KEEP, 0, low).astype(np.float32)
    done = compare("Attention", {"q": Q, "k": K, "v": V, "secret_mask": np.broadcast_to(mask, (5, 5)).copy()})
    assert done.outcome.cost == done.outcome.plan.cost
    assert done.error < 1e-4
