"""A model's public part depends neither on the values of its weights nor on which of them are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model

RNG = np.random.default_rng(8)
WIDTH = 8
LAYER = RNG.normal(size=(WIDTH, 4)).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def prepared(nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], **patterns: Any) -> Blueprint:
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return prepare_model(ir.serde.deserialize_model(model), Policy(**patterns))[0]


def reals(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


BESIDE = [node("Mul", "x c", "scaled"), node("MatMul", "scaled w", "y")]
BIAS = [node("MatMul", "x w", "z"), node("Add", "z c", "y")]
MOVED = [node("Reshape", "c shape", "d"), node("MatMul", "x w", "z"), node("Add", "z d", "y")]
NORM = [node("LayerNormalization", "x c b", "n"), node("MatMul", "n w", "y")]
PRODUCT = [node("MatMul", "x c", "y")]
INTEGERS = [node("Cast", "c", "r", to=1), node("Mul", "r s", "f"), node("MatMul", "x f", "y")]

ALIKE: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], Sequence[Any]]] = {
    "a scale": (BESIDE, {"w": LAYER}, [np.ones(WIDTH, np.float32), reals(WIDTH)]),
    "a bias": (BIAS, {"w": LAYER}, [np.zeros(4, np.float32), reals(4)]),
    "a bias that is moved": (
        MOVED,
        {"w": LAYER, "shape": np.array([1, 4])},
        [np.zeros(4, np.float32), reals(4)],
    ),
    "a norm": (NORM, {"w": LAYER, "b": reals(WIDTH)}, [np.ones(WIDTH, np.float32), reals(WIDTH)]),
    "a product": (
        PRODUCT,
        {},
        [
            reals(WIDTH, WIDTH),
            np.eye(WIDTH, dtype=np.float32),
            np.tri(WIDTH, dtype=np.float32),
            np.kron(np.eye(4), np.ones((2, 2))).astype(np.float32),
            np.zeros((WIDTH, WIDTH), np.float32),
            np.ones((WIDTH, WIDTH), np.float32),
        ],
    ),
    "integers with an order": (
        INTEGERS,
        {"s": np.float32(1 / 128)},
        [
            RNG.integers(-100, 100, (WIDTH, WIDTH)).astype(np.int32),
            # equal along each diagonal, rising and falling
            np.array([[[9, 41, 77, 91, 120, 56, 40, 3][j - i] for j in range(WIDTH)] for i in range(WIDTH)]),
            np.full((WIDTH, WIDTH), 1777, np.int32),
        ],
    ),
}


def told(blueprint: Blueprint) -> tuple[bytes, dict[str, str], dict[str, str]]:
    return blueprint.skeleton, blueprint.visibility, blueprint.reasons


@pytest.mark.parametrize("kind", ALIKE)
def test_weights_of_every_form_look_the_same(kind: str) -> None:
    nodes, constants, values = ALIKE[kind]
    first, *others = [told(prepared(nodes, {"c": value, **constants})) for value in values]
    for other in others:
        if other[0] != first[0]:  # the kind of integer is public
            assert kind == "integers with an order"
        assert other[1:] == first[1:]
        assert "secret" in other[1].values()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_three_numbers_are_no_positions(kind: Any) -> None:
    first, *others = [
        told(
            prepared(
                [node("Reshape", "x rows", "t"), node("Cast", "c", "r", to=1), node("Mul", "t r", "y")],
                {"rows": np.array([-1, 1]), "c": np.array(values, kind)},
            )
        )
        for values in ([-1, 0, 1], [1, 0, -1], [0, 1, 1], [6, 4, 2])
    ]
    assert all(other == first for other in others)


def test_a_number_that_its_owner_keeps_is_not_one_with_an_equal_one() -> None:
    nodes = [node("Add", "x open", "a"), node("Relu", "a", "b"), node("Mul", "b kept", "y")]
    half = np.float32(0.5)
    blueprint = prepared(nodes, {"open": half, "kept": half}, secret=["kept"])
    assert blueprint.visibility == {"open": "public", "kept": "secret"}
    assert blueprint.reasons["kept"] == "pattern 'kept'"


def test_a_mask_of_what_is_public_stays_one() -> None:
    """A mask that no data meets stays a mask: one for positions from an attention mask, say."""
    nodes = [
        node("Shape", "x", "s"),
        node("Expand", "one s", "ones"),
        node("MatMul", "ones c", "p"),
        node("Add", "x p", "y"),
    ]
    blueprint = prepared(nodes, {"one": np.float32(1), "c": np.tri(WIDTH, dtype=np.float32)})
    assert blueprint.visibility.get("c") != "secret"


def test_a_table_that_chooses_rows_is_one_with_them(on_shares: Any) -> None:
    """Many words belong to one class; nobody sees which."""
    classes = RNG.integers(0, 6, 40)
    nodes = [
        node("Gather", "classes ids", "rows"),
        node("Gather", "vectors rows", "one"),
        node("Gather", "others rows", "two"),
        node("Add", "one two", "y"),
    ]
    held = {"classes": classes, "vectors": reals(6, 5), "others": reals(6, 5)}
    ran = on_shares(nodes, held, {"ids": RNG.integers(0, 40, (2, 3))})
    assert ran.error < 1e-4
    assert not ran.public & {"classes", "vectors"}


@pytest.mark.parametrize(
    ("nodes", "held"),
    [
        (
            [node("Gather", "c ids", "r"), node("Add", "r r", "i"), node("Gather", "t i", "y")],
            {"c": RNG.integers(0, 3, 40), "t": reals(6, 5)},
        ),
        (
            [node("Cast", "ids", "p", to=1), node("Mul", "p c", "a"), node("Tan", "a", "y")],
            {"c": np.float32(0.37123)},
        ),
    ],
)
def test_what_decides_from_afar_is_named(on_shares: Any, nodes: list[onnx.NodeProto], held: Any) -> None:
    feed = {"ids": RNG.integers(0, 6, (2, 3))}
    with pytest.raises(UnsupportedModelError, match="it follows from 'c', a secret constant: --public"):
        on_shares(nodes, held, feed, at_client=True)
    shown = [name for name in held if name != "c"]
    assert on_shares(nodes, held, feed, secret=shown, public=["c"], at_client=True).error < 1e-4


def test_ones_that_a_model_brings_are_a_weight() -> None:
    """An untrained norm, and the factor after it."""
    nodes = [
        node("LayerNormalization", "x c", "n"),
        node("Mul", "n f", "m"),
        node("MatMul", "m w", "y"),
    ]
    first, second = (
        told(prepared(nodes, {"c": scale, "f": reals(WIDTH), "w": LAYER}))
        for scale in (np.ones(WIDTH, np.float32), reals(WIDTH))
    )
    assert first == second


@pytest.mark.parametrize("place", ["initializer", "Constant"])
def test_few_numbers_of_half_precision_make_a_model_coarse(place: str) -> None:
    """842 is an integer in float16, where every second number of that size is an integer."""
    few = RNG.normal(size=(WIDTH, 2)).astype(np.float16)
    nodes = [
        node("Cast", "few", "w", to=1),
        node("MatMul", "x w", "z"),
        node("Mul", "z c", "y"),
    ]
    constants = {"c": np.float32(842), "few": few}
    if place == "Constant":
        del constants["few"]
        nodes.insert(0, node("Constant", "", "few", value=numpy_helper.from_array(few)))
    assert (
        told(prepared(nodes, constants))[0] == told(prepared(nodes, {**constants, "c": np.float32(871)}))[0]
    )


@pytest.mark.parametrize("fixed", [True, False])
def test_a_number_that_fills_a_shape_is_secret(fixed: bool) -> None:
    def filled(number: float) -> tuple[bytes, dict[str, str], dict[str, str]]:
        tensor = numpy_helper.from_array(np.array([number], np.float32))
        nodes = [
            node("Shape", "x", "s"),
            node("ConstantOfShape", "width" if fixed else "s", "fill", value=tensor),
            node("Add", "x fill", "y"),
        ]
        blueprint = prepared(nodes, {"width": np.array([WIDTH])})
        assert blueprint.doubtful == ()
        return told(blueprint)

    assert filled(0.37251) == filled(0.91312)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_a_weight_of_one_number_is_not_in_the_skeleton(value: float) -> None:
    blueprint = prepared(BIAS, {"w": LAYER, "c": np.full(4, value, np.float32)})
    assert blueprint.weights == ["w", "c"]
    model = onnx.load_from_string(blueprint.skeleton)
    assert [tensor.name for tensor in model.graph.initializer] == []
