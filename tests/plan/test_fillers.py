"""Secret masks: their minus infinity is either a number that fixed point can hold, or kept out of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

OnShares = Callable[..., Any]
Nodes = list[onnx.NodeProto]

RNG = np.random.default_rng(9)
WIDTH = 24


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


X = (RNG.standard_normal((6, WIDTH)) * 4).astype(np.float32)
KEPT = RNG.random((6, WIDTH)) < 0.6
MASKED = [node("Add", "x m", "s"), node("Softmax", "s", "y")]
LOWEST = np.finfo(np.float32).min

WAYS: dict[str, tuple[Nodes, dict[str, Any]]] = {
    "minus infinity": (MASKED, {"m": np.where(KEPT, 0, -np.inf).astype(np.float32)}),
    "the lowest float": (MASKED, {"m": np.where(KEPT, 0, LOWEST).astype(np.float32)}),
    "-10000": (MASKED, {"m": np.where(KEPT, 0, -1e4).astype(np.float32)}),
    "a bias with minus infinity in it": (MASKED, {"m": np.where(KEPT, X[::-1], -np.inf).astype(np.float32)}),
    "moved about": (
        [node("Transpose", "m", "t"), node("Add", "x t", "s"), node("Softmax", "s", "y")],
        {"m": np.where(KEPT, 0, -1e9).astype(np.float32).T},
    ),
    "of booleans, by Where": (
        [node("Where", "m nothing low", "a"), node("Add", "x a", "s"), node("Softmax", "s", "y")],
        {"m": KEPT, "nothing": np.float32(0), "low": np.float32(-1e9)},
    ),
    "of booleans, by a product": (
        [
            node("Cast", "m", "kept", to=TensorProto.FLOAT),
            node("Sub", "one kept", "off"),
            node("Mul", "off low", "a"),
            node("Add", "x a", "s"),
            node("Softmax", "s", "y"),
        ],
        {"m": KEPT, "one": np.float32(1), "low": np.float32(-1e4)},
    ),
    "chosen": (
        [node("Greater", "x nothing", "b"), node("Where", "b x m", "s"), node("Softmax", "s", "y")],
        {"m": np.where(KEPT, -1e9, 0.5).astype(np.float32), "nothing": np.float32(0)},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_mask(on_shares: OnShares, way: str) -> None:
    nodes, constants = WAYS[way]
    ran = on_shares(nodes, constants, {"x": X}, secret=["m"])
    assert ran.error < 1e-3
    assert "m" not in ran.public


@pytest.mark.parametrize("everything", [True, False], ids=["all constants secret", "the mask secret"])
@pytest.mark.parametrize("low", [-1e4, -12345.678, -1e9, LOWEST, -np.inf])
@pytest.mark.parametrize("ordered", [True, False])
def test_scores_that_lie_far_apart(on_shares: OnShares, low: float, everything: bool, ordered: bool) -> None:
    """Further than -2500 would allow; also where the order of places would reveal which are masked."""
    kept = np.tri(6, WIDTH) > 0 if ordered else KEPT
    constants = {"m": np.where(kept, X[::-1] if ordered else 0, low).astype(np.float32)}
    ran = on_shares(MASKED, constants, {"x": X * 50}, secret=["*"] if everything else ["m"])
    assert ran.error < 1e-3
    assert not {"m_kept", "m_masked"} & ran.public
    assert {"m_kept", "m_masked"} <= set(ran.blueprint.visibility)


def test_a_large_secret_mask(on_shares: OnShares) -> None:
    kept = RNG.random((260, 260)) < 0.6
    x = RNG.standard_normal((260, 260)).astype(np.float32)
    ran = on_shares(MASKED, {"m": np.where(kept, 0, -np.inf).astype(np.float32)}, {"x": x}, secret=["m"])
    assert ran.error < 1e-3
    assert set(ran.blueprint.visibility) == {"m"}


def test_what_is_multiplied_is_no_mask(on_shares: OnShares) -> None:
    factors = np.array([0, -10000] * (WIDTH // 2), np.float32)
    assert on_shares([node("Mul", "x m", "y")], {"m": factors}, {"x": X}, secret=["m"]).error < 1e-4


@pytest.mark.parametrize("reader", ["ReduceMax", "TopK"])
@pytest.mark.parametrize("low", [-34000.0, -1e30])
def test_what_no_softmax_reads_is_as_far_out_as_it_has_to_be(
    on_shares: OnShares, reader: str, low: float
) -> None:
    """Values beyond 2500, and one row that the mask leaves nothing and that is read as a number."""
    kept = KEPT.copy()
    kept[:, 3] = True
    if low == -34000.0:
        kept[2] = False
    last = {"ReduceMax": node("ReduceMax", "s places", "y"), "TopK": node("TopK", "s places", "y")}[reader]
    if reader == "TopK":
        last.output.append("where")
    constants = {"m": np.where(kept, 0, low).astype(np.float32)}
    nodes = [helper.make_node("Constant", [], ["places"], value_ints=[1]), node("Add", "x m", "s"), last]
    assert on_shares(nodes, constants, {"x": X * 5000}, secret=["m"]).error < 1e-3
