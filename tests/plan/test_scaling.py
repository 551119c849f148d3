"""Weights of small numbers keep their digits, and so does what is made of them; ordinary weights stay as they
are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.registry import FINEST
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.prepare import prepare_model

OnShares = Callable[..., Any]
Nodes = list[onnx.NodeProto]

RNG = np.random.default_rng(8)
WIDTH = 32


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def reals(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def below(largest: float, *shape: int) -> np.ndarray:
    """Numbers whose largest is just below `largest`."""
    values = RNG.uniform(-1, 1, shape)
    return (values / np.abs(values).max() * largest * 0.999).astype(np.float32)


PRODUCT = node("MatMul", "x w", "y")
X = reals(4, WIDTH)
IDS = np.array([[3, 0, 19, 3]])

SMALL: dict[str, tuple[Nodes, Mapping[str, Any], Mapping[str, np.ndarray]]] = {
    "pixels over 255": (
        [PRODUCT],
        {"w": reals(WIDTH, 8, scale=0.1 / 255)},
        {"x": RNG.integers(0, 256, (4, WIDTH)).astype(np.float32)},
    ),
    "a result that is small": ([PRODUCT], {"w": reals(WIDTH, 8, scale=1e-4)}, {"x": X}),
    "the low-rank factors of LoRA": (
        [node("MatMul", "x w", "h"), node("MatMul", "h w2", "y")],
        {"w": reals(WIDTH, 4, scale=1e-4), "w2": reals(4, WIDTH, scale=1e-2)},
        {"x": X},
    ),
    "a large layer behind a small one": (
        [node("MatMul", "x w", "h"), node("MatMul", "h w2", "y")],
        {"w": reals(WIDTH, 4, scale=1e-4), "w2": reals(4, WIDTH, scale=300)},
        {"x": X},
    ),
    "a bias beside it": (
        [node("MatMul", "x w", "h"), node("Add", "h b", "y")],
        {"w": reals(WIDTH, 8, scale=1e-5), "b": reals(8)},
        {"x": X * 1e5},
    ),
    "a bias and an activation": (
        [node("MatMul", "x w", "h"), node("Add", "h b", "g"), node("Relu", "g", "y")],
        {"w": reals(WIDTH, 8, scale=1e-3), "b": reals(8)},
        {"x": X * 1e3},
    ),
    "a transposed weight": (
        [node("Transpose", "w", "t"), node("MatMul", "x t", "y")],
        {"w": reals(300, WIDTH, scale=1e-4)},
        {"x": X},
    ),
    "Gemm": (
        [node("Gemm", "x w b", "y", transB=1)],
        {"w": reals(8, WIDTH, scale=1e-4), "b": reals(8)},
        {"x": X},
    ),
    "Gemm without a bias": ([node("Gemm", "x w", "y")], {"w": reals(WIDTH, 8, scale=1e-5)}, {"x": X}),
    "Gemm with factors": (
        [node("Gemm", "x w b", "y", transB=1, alpha=100.0, beta=0.1)],
        {"w": reals(8, WIDTH, scale=1e-6), "b": reals(8)},
        {"x": X * 1e4},
    ),
    "Gemm halved": (
        [node("Gemm", "x w b", "y", alpha=0.5)],
        {"w": reals(WIDTH, 8, scale=1e-5), "b": reals(8)},
        {"x": X * 1e4},
    ),
    "Conv": (
        [node("Conv", "x w b", "y")],
        {"w": reals(4, 3, 3, 3, scale=1 / 2550), "b": reals(4)},
        {"x": RNG.integers(0, 256, (1, 3, 6, 6)).astype(np.float32)},
    ),
    "ConvTranspose": (
        [node("ConvTranspose", "x w", "y")],
        {"w": reals(3, 2, 2, 2, scale=1e-4)},
        {"x": reals(1, 3, 4, 4)},
    ),
    "Einsum": (
        [node("Einsum", "x w", "y", equation="ij,jk->ik")],
        {"w": reals(WIDTH, 8, scale=1e-4)},
        {"x": X},
    ),
    "LayerScale alone": ([node("Mul", "x w", "y")], {"w": reals(WIDTH, scale=1e-6)}, {"x": X}),
    "LayerScale of 1e-5": (
        [node("Mul", "x w", "h"), node("Add", "h x", "y")],
        {"w": reals(WIDTH, scale=1e-5)},
        {"x": X},
    ),
    "a divisor in the hundred thousands": (
        [node("Div", "x w", "y")],
        {"w": RNG.uniform(1e5, 5e5, WIDTH).astype(np.float32)},
        {"x": X * 1e5},
    ),
    "a divisor for small numbers": (
        [node("Div", "x w", "y")],
        {"w": RNG.uniform(1e5, 5e5, WIDTH).astype(np.float32)},
        {"x": X},
    ),
    "embeddings": ([node("Gather", "w ids", "y")], {"w": reals(20, WIDTH, scale=1e-4)}, {"ids": IDS}),
    "embeddings, added and normalised": (
        [
            node("Gather", "w ids", "e"),
            node("Gather", "w2 ids", "p"),
            node("Add", "e p", "s"),
            node("LayerNormalization", "s g b", "y", epsilon=1e-12),
        ],
        {
            "w": reals(20, WIDTH, scale=1e-4),
            "w2": reals(20, WIDTH, scale=1e-3),
            "g": reals(WIDTH),
            "b": reals(WIDTH),
        },
        {"ids": IDS},
    ),
    "embeddings and a mean square": (
        [node("Gather", "w ids", "e"), node("RMSNormalization", "e g", "y", epsilon=1e-6)],
        {"w": reals(20, WIDTH, scale=1e-3), "g": reals(WIDTH)},
        {"ids": IDS},
    ),
    "embeddings and a product": (
        [node("Gather", "w ids", "e"), node("MatMul", "e w2", "y")],
        {"w": reals(20, WIDTH, scale=1e-4), "w2": reals(WIDTH, 8)},
        {"ids": IDS},
    ),
    "the slope of PRelu": ([node("PRelu", "x w", "y")], {"w": np.float32(0.00317)}, {"x": X}),
}


@pytest.mark.parametrize("kind", SMALL)
def test_small_numbers_keep_their_digits(on_shares: OnShares, kind: str) -> None:
    nodes, constants, feed = SMALL[kind]
    ran = on_shares(nodes, constants, feed)
    assert ran.error < 2e-4
    assert ran.blueprint.fractions


def made(nodes: Nodes, constants: Mapping[str, np.ndarray], outputs: str = "y") -> Any:
    """The blueprint of a model from x (4, WIDTH), all constants secret."""
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, WIDTH])
    results = [helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs.split()]
    graph = helper.make_graph(nodes, "g", [x], results, held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    return prepare_model(ir.serde.deserialize_model(proto), Policy(secret=["*"]))[0]


@pytest.mark.parametrize(
    ("largest", "spare"),
    [
        (4000.0, 0),
        (1.0, 0),
        (2.0**-5, 0),
        (2.0**-6, 6),
        (2.0**-9, 6),
        (2.0**-10, 10),
        (2.0**-15, 14),
        (2.0**-22, 22),
        (1e-30, 22),
    ],
)
def test_the_scale_says_of_the_largest_number_no_more_than_a_factor_of_16(largest: float, spare: int) -> None:
    fractions = made([PRODUCT], {"w": below(largest, WIDTH, 8)}).fractions
    assert fractions == ({"w": RESTING.fraction + spare} if spare else {})


def test_ordinary_weights_are_not_touched() -> None:
    ordinary = np.full((WIDTH, 8), 1e-9, np.float32)
    ordinary[-1, -1] = 2.0**-6
    assert made([PRODUCT], {"w": ordinary}).fractions == {}
    assert made([PRODUCT], {"w": np.zeros((WIDTH, 8), np.float32)}).fractions == {}


SHAPED = helper.make_node("Constant", [], ["shape"], value_ints=[1, WIDTH])
ELSEWHERE: dict[str, Nodes] = {
    "in a sum": [node("Add", "x w", "y")],
    "in a product and in a sum": [node("Mul", "x w", "m"), node("Add", "m w", "y")],
    "moved about": [
        SHAPED,
        node("Reshape", "w shape", "r"),
        node("Add", "x r", "m"),
        node("Mul", "m w", "y"),
    ],
    "in a choice": [node("Greater", "x w", "b"), node("Where", "b x w", "y")],
    "in a maximum": [node("Max", "x w", "y")],
    "as another row": [SHAPED, node("Reshape", "w shape", "r"), node("Concat", "x r", "y", axis=0)],
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_weight_that_is_read_otherwise_has_the_scale_of_all_values(kind: str) -> None:
    """Each reader of a vector gets its own scale; only one of these is read by a product alone."""
    alone = {"in a product and in a sum": {"w": 24}, "moved about": {"w/2": 24}}
    assert made(ELSEWHERE[kind], {"w": below(1e-3, WIDTH)}).fractions == alone.get(kind, {})


@pytest.mark.parametrize("op", ["Gemm", "Conv", "ConvTranspose"])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_a_bias_as_large_as_it_may_be(on_shares: OnShares, op: str, size: float) -> None:
    shape = {"Gemm": (WIDTH, 4), "Conv": (4, WIDTH, 2, 2), "ConvTranspose": (WIDTH, 4, 2, 2)}[op]
    x = reals(3, WIDTH) if op == "Gemm" else reals(1, WIDTH, 3, 3)
    constants = {"w": reals(*shape, scale=size), "b": reals(4, scale=1e5)}
    for bias in (constants["b"], constants["b"] * np.float32(1e-5)):
        held = {"w": constants["w"], "b": bias}
        ran = on_shares([node(op, "x w b", "y")], held, {"x": x / np.float32(size)})
        assert ran.error < 3e-4
        assert ran.plan.steps[0].cost.rounds == (2 if size < 1e-3 else 0)


def test_what_is_kept_at_the_servers_has_the_scale_of_all_values() -> None:
    blueprint = made([PRODUCT], {"w": below(1e-4, WIDTH, 8)})
    for selection, fraction in ((Selection(("y",)), 28), (Selection((), ("y",)), 18)):
        plan = compile_plan(blueprint, {"x": (4, WIDTH)}, selection=selection)
        assert plan.outputs[0].format.fraction == fraction


def test_a_table_whose_rows_lose_the_digits_at_once_does_not_get_them() -> None:
    ids = [helper.make_node("Constant", [], ["ids"], value_ints=[1, 2, 3, 4])]
    nodes = [*ids, node("Gather", "w ids", "e"), node("Add", "x e", "y")]
    assert made(nodes, {"w": below(1e-4, 300, WIDTH)}).fractions == {}


def test_a_public_factor_has_fraction_bits_of_its_own(on_shares: OnShares) -> None:
    nodes = [node("MatMul", "p w", "m"), node("Add", "m x", "y")]
    public = reals(4, WIDTH, scale=1e-3)
    for size in (1e-3, 1e-5):
        held = {"w": reals(WIDTH, 8, scale=size)}
        ran = on_shares(nodes, held, {"p": public, "x": reals(4, 8)}, public_inputs=["p"])
        assert ran.error < 1e-4
        assert not ran.blueprint.fractions


def test_two_small_weights_whose_product_is_too_large_to_store(on_shares: OnShares) -> None:
    nodes = [node("MatMul", "w w2", "m"), node("MatMul", "x m", "y")]
    held = {"w": reals(WIDTH, 1, scale=1e-4), "w2": reals(1, 3000, scale=1e-4)}
    ran = on_shares(nodes, held, {"x": X * np.float32(1e4)})
    assert ran.operators == ["MatMul", "MatMul"]
    assert ran.error < 1e-2  # a wrong result is wrong by far
    bits = [ran.blueprint.format(name).fraction - RESTING.fraction for name in ("w", "w2")]
    assert 12 <= sum(bits) <= FINEST - RESTING.fraction


def test_ranges_are_those_of_ordinary_numbers(on_shares: OnShares) -> None:
    ordinary = on_shares([PRODUCT], {"w": below(1.0, WIDTH, 8)}, {"x": X * 2.0**18})
    small = on_shares([PRODUCT], {"w": below(2.0**-16, WIDTH, 8)}, {"x": X * 2.0**18})
    assert ordinary.error < 1e-4
    assert small.error < 1e-4
    assert small.plan.cost.rounds == ordinary.plan.cost.rounds


def test_the_scales_are_part_of_what_servers_compare(tmp_path: Any) -> None:
    blueprint = made([PRODUCT], {"w": below(1e-4, WIDTH, 8)})
    blueprint.save(tmp_path)
    assert type(blueprint).read(tmp_path).fractions == blueprint.fractions
    policy = (tmp_path / "policy.json").read_text()
    (tmp_path / "policy.json").write_text(policy.replace('"w": 28', '"w": 24'))
    with pytest.raises(Exception, match="does not match its digest"):
        type(blueprint).read(tmp_path)
