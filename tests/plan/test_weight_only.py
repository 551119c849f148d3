"""Weights that a model computes from other constants: the owner computes them; nobody sees the sources."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.plan.few_bits import (
    CAST,
    COLUMNS,
    ROWS,
    SHAPES,
    WEIGHTS,
    WIDTH,
    Constants,
    Nodes,
    OnShares,
    integers,
    node,
    reals,
    scales,
)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_it_is_one_weight(on_shares: OnShares, kind: str) -> None:
    nodes, constants = WEIGHTS[kind]
    ran = on_shares(
        nodes, constants, {"x": reals(3, WIDTH)}, secret=[n for n in constants if n not in SHAPES]
    )
    assert ran.error < 1e-4
    assert ran.operators == ["MatMul"]
    assert not ran.public
    held = ran.blueprint.graph.initializers
    assert [held[name].dtype.kind for name in ran.blueprint.weights] == ["f"]


def test_the_skeleton_holds_none_of_the_integers(on_shares: OnShares) -> None:
    nodes, constants = WEIGHTS["int8, one scale"]
    skeleton = on_shares(nodes, constants, {"x": reals(3, WIDTH)}).blueprint.skeleton
    assert constants["q"].tobytes()[:64] not in skeleton
    assert constants["s"].tobytes() not in skeleton
    assert {n.op_type for n in onnx.load_from_string(skeleton).graph.node} == {"MatMul"}


LOOK_UP = node("Gather", "q ids", "row")

REAL_ROW = node("Cast", "row", "real", to=TensorProto.FLOAT)

TABLES: dict[str, tuple[Nodes, Constants]] = {
    "one scale": ([LOOK_UP, REAL_ROW, node("Mul", "real s", "y")], {"s": np.float32(0.0217)}),
    "a zero point and a scale for each column": (
        [LOOK_UP, REAL_ROW, node("Sub", "real zero", "centred"), node("Mul", "centred s", "y")],
        {"s": scales(16), "zero": np.float32(3.5)},
    ),
    "the zero point as an integer": (
        [
            LOOK_UP,
            node("Cast", "row", "whole", to=TensorProto.INT32),
            node("Sub", "whole zero", "centred"),
            node("Cast", "centred", "real", to=TensorProto.FLOAT),
            node("Mul", "real s", "y"),
        ],
        {"s": scales(16), "zero": np.int32(-7)},
    ),
    "a scale for each row": (
        [LOOK_UP, REAL_ROW, node("Gather", "s ids", "by"), node("Mul", "real by", "y")],
        {"s": scales(50, 1)},
    ),
    "the whole table at once": (
        [CAST, node("Mul", "real s", "w"), node("Gather", "w ids", "y")],
        {"s": scales(50, 1)},
    ),
    "DequantizeLinear behind it": (
        [LOOK_UP, node("DequantizeLinear", "row s", "y")],
        {"s": np.float32(0.0217)},
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_rows_of_a_table_of_integers(on_shares: OnShares, kind: str) -> None:
    nodes, constants = TABLES[kind]
    constants = {"q": integers(-128, 128, 50, 16), **constants}
    ran = on_shares(nodes, constants, {"ids": ROWS})
    assert ran.error < 1e-4
    assert ran.operators == ["Gather"]
    assert not ran.public


def test_a_table_that_is_read_as_it_is_as_well(on_shares: OnShares) -> None:
    nodes = [
        LOOK_UP,
        REAL_ROW,
        node("Mul", "real s", "scaled"),
        node("Cast", "q", "table", to=TensorProto.FLOAT),
        node("Transpose", "table", "turned"),
        node("MatMul", "scaled turned", "y"),
    ]
    constants = {"q": integers(-128, 128, 50, 16), "s": np.float32(0.0217)}
    ran = on_shares(nodes, constants, {"ids": ROWS})
    assert ran.error < 1e-4
    assert not ran.public


def test_rows_with_a_scale_for_each_block(on_shares: OnShares) -> None:
    """The nodes between the look-up and the scale are more than arithmetic, so they run on shares."""
    nodes = [
        LOOK_UP,
        REAL_ROW,
        node("Reshape", "real shape", "blocks"),
        node("Gather", "s ids", "by"),
        node("Unsqueeze", "by at", "wide"),
        node("Mul", "blocks wide", "y"),
    ]
    constants = {
        "q": integers(-128, 128, 50, 16),
        "s": scales(50, 4),
        "shape": np.array([1, 4, 4, 4]),
        "at": np.array([-1]),
    }
    ran = on_shares(nodes, constants, {"ids": ROWS}, secret=["q", "s"])
    assert ran.error < 1e-4
    assert not ran.public & {"q", "s"}


def test_a_tied_table_is_stored_once(on_shares: OnShares) -> None:
    nodes = [
        CAST,
        node("Mul", "real s", "w"),
        node("Gather", "w ids", "row"),
        node("Transpose", "w", "turned"),
        node("MatMul", "row turned", "y"),
    ]
    constants = {"q": integers(-128, 128, 50, COLUMNS), "s": np.float32(0.0217)}
    ran = on_shares(nodes, constants, {"ids": ROWS})
    assert ran.error < 1e-4
    assert ran.blueprint.weights == ["w"]
