"""Weights that a model computes from other constants: the owner computes them, and nobody sees what from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError
from onnxpuma.graph.rules.weight_only import TITLE
from onnxpuma.plan.blueprint import prepare_model

OnShares = Callable[..., Any]
Constants = dict[str, Any]
Nodes = list[onnx.NodeProto]

RNG = np.random.default_rng(5)
WIDTH = 48
SHAPES = ("shape", "axes", "at")
COLUMNS = 200  # more numbers than are folded as a matter of course
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
    """What stands between the look-up and the scale is more than arithmetic: it runs on shares."""
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


def made(nodes: Nodes, constants: Constants, **options: Any) -> Any:
    """Blueprint and graph of a model from x (3, WIDTH) to y."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return prepare_model(ir.serde.deserialize_model(proto), **options)


def test_what_is_computed_is_read_when_it_is_asked_for() -> None:
    nodes, constants = WEIGHTS["uint8, a scale and a zero point for each column"]
    blueprint, graph = made(nodes, constants)
    assert blueprint.recognised[TITLE] == 1
    expected = (constants["q"].astype(np.float32) - constants["zero"]) * constants["s"]
    np.testing.assert_array_equal(graph.initializers["w"].numpy(), expected)


def test_a_weight_that_only_moves_is_not_stored_again() -> None:
    nodes = [node("Transpose", "q", "t"), node("Expand", "t shape", "w"), PRODUCT]
    constants = {"q": reals(COLUMNS, WIDTH), "shape": np.array([7, 1, 1])}
    blueprint, _ = made(nodes, constants, secret=["q"])
    assert blueprint.weights == ["q"]


def test_a_weight_that_would_become_giant_stays_an_expression() -> None:
    nodes = [
        node("Expand", "q shape", "wide"),
        node("Mul", "wide s", "w"),
        node("MatMul", "x w", "many"),
        node("ReduceSum", "many axes", "y"),
    ]
    constants = {
        "q": reals(WIDTH, 1),
        "s": reals(WIDTH, 1),
        "shape": np.array([40, WIDTH, 64]),
        "axes": np.array([0]),
    }
    blueprint, graph = made(nodes, constants, secret=["q", "s"])
    assert set(blueprint.weights) == {"q", "s"}
    assert sum(graph.initializers[name].size for name in blueprint.weights) == 2 * WIDTH


def test_a_shape_that_depends_on_a_weight_is_not_given_away() -> None:
    nodes = [node("Compress", "dense q", "w", axis=1), PRODUCT]
    constants = {"dense": reals(WIDTH, 9), "q": RNG.random(9) < 0.5}
    blueprint, _ = made(nodes, constants, secret=["dense", "q"])
    assert set(blueprint.weights) == {"dense", "q"}


def test_patterns_name_what_stands_in_the_file() -> None:
    nodes, constants = WEIGHTS["int8, one scale"]
    assert made(nodes, constants, secret=["q", "s"])[0].weights == ["w"]
    with pytest.raises(ConfigError, match="'qq'"):
        made(nodes, constants, secret=["q", "qq"])


def test_what_a_pattern_makes_secret_stays_secret_in_what_is_computed_of_it() -> None:
    nodes = [node("Exp", "q", "w"), node("Mul", "x w", "y")]
    blueprint, _ = made(nodes, {"q": np.float32(1.0)}, secret=["q"])
    assert blueprint.visibility == {"w": "secret"}
    nodes = [node("Not", "q", "r"), node("Where", "r x nothing", "y")]
    constants = {"q": np.arange(WIDTH) < 4, "nothing": np.float32(0)}
    blueprint, _ = made(nodes, constants, secret=["q"])
    assert blueprint.visibility["r"] == "secret"


def branch(name: str) -> onnx.GraphProto:
    """x times a weight of its own; inside, all names are those of the other branch."""
    nodes = [
        node("Cast", f"q{name}", "real", to=TensorProto.FLOAT),
        node("Mul", "real s", "w"),
        node("MatMul", "x w", "part"),
    ]
    part = helper.make_tensor_value_info("part", TensorProto.FLOAT, [3, COLUMNS])
    return helper.make_graph(nodes, name, [], [part])


def test_in_a_branch(on_shares: OnShares) -> None:
    nodes = [node("If", "flag", "y", then_branch=branch("1"), else_branch=branch("2"))]
    constants = {
        "q1": integers(-128, 128, WIDTH, COLUMNS),
        "q2": integers(-128, 128, WIDTH, COLUMNS),
        "s": np.float32(0.0031),
    }
    for flag in (True, False):
        feed = {"x": reals(3, WIDTH), "flag": np.array(flag)}
        ran = on_shares(nodes, constants, feed, secret=["*"], public_inputs=["flag"])
        assert ran.error < 1e-4
        assert ran.operators == ["MatMul", "Identity"]
        assert [ran.blueprint.graph.initializers[n].dtype.kind for n in ran.blueprint.weights] == ["f", "f"]


def test_in_a_body(on_shares: OnShares) -> None:
    inner = [
        node("Cast", "q", "real", to=TensorProto.FLOAT),
        node("Mul", "real s", "w"),
        node("MatMul", "before w", "after"),
        node("Identity", "going", "still"),
    ]
    body = helper.make_graph(
        inner,
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [3, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [3, WIDTH]),
        ],
    )
    nodes = [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)]
    constants = {"q": integers(-20, 20, WIDTH, WIDTH), "s": np.float32(0.0131), "turns": np.array(3)}
    ran = on_shares(nodes, constants, {"x": reals(3, WIDTH)}, secret=["q", "s"])
    assert ran.error < 1e-4
    assert [name for name in ran.operators if not name.startswith("Range")] == ["MatMul"] * 3 + ["Identity"]


def test_what_is_public_is_left_alone() -> None:
    nodes = [node("Cast", "q", "m", to=TensorProto.FLOAT), node("Mul", "x m", "y")]
    constants = {"q": np.arange(WIDTH) < 4}
    blueprint, _ = made(nodes, constants, public=["q"])
    assert TITLE not in blueprint.recognised


def test_numbers_drawn_at_random_are_not_drawn_by_the_owner() -> None:
    nodes = [node("RandomNormalLike", "q", "noise"), node("Mul", "noise q", "w"), PRODUCT]
    blueprint, _ = made(nodes, {"q": reals(WIDTH, COLUMNS)}, secret=["q"])
    assert "q" in blueprint.weights
