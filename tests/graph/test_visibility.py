"""Weights are secret, constants that the architecture determines public; the owner's patterns overrule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.finding import Finding
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, Node, to_graph
from onnxpuma.graph.visibility import ONES, classify, secrets_of
from tests.graph.constants import FLOAT, PRODUCT, RANDOM, WEIGHT, graph, initializer, node, seen, waves

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(5), "positions"),
        (np.arange(600).reshape(20, 30).T, "a grid of positions"),
        (np.zeros((3, 4), np.int64), "one number"),
        (np.int64(1000), "round number"),
        (np.int64(1 << 16), "round number"),
        (np.int64(65535), "round number"),
        (np.array([True, True]), "one boolean throughout"),
        (np.bool_(True), "one boolean"),
        (np.tri(6, dtype=bool)[None, None], "mask of positions"),
        (~np.tri(6, dtype=bool), "mask of positions"),
        (np.tri(9, dtype=bool) & ~np.tri(9, k=-4, dtype=bool), "mask of positions"),
        (FLOAT(0.125), "round number"),
        (np.array([[0.125]], FLOAT), "round number"),
        (FLOAT(-np.inf), "round number"),
        (np.finfo(FLOAT).min, "round number"),
        (np.zeros((0, 4), FLOAT), "empty"),
        (np.triu(np.full((6, 6), -np.inf, FLOAT), 1), "mask of positions"),
        (np.triu(np.full((1, 1, 6, 6), np.finfo(FLOAT).min, FLOAT), 1), "mask of positions"),
        (np.tri(6, dtype=FLOAT), "mask of positions"),
        (np.tri(6, dtype=FLOAT).T[None, None], "mask of positions"),
        (np.arange(12, dtype=FLOAT).reshape(1, 12), "positions"),
        (waves(50, 8), "sines and cosines of positions"),
        (waves(500, 64)[None], "sines and cosines of positions"),
    ],
)
def test_public(values: np.ndarray, reason: str) -> None:
    assert seen(values) == Finding("public", reason)


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=(6, 6)).astype(FLOAT),
        RANDOM.normal(size=(64, 8)).astype(FLOAT),
        np.eye(8, dtype=FLOAT) * FLOAT(0.3),
        np.sin(RANDOM.normal(size=(50, 8))).astype(FLOAT),
        np.array([1.0, 0.5, 0.25], FLOAT),  # falls like frequencies, but nothing shows that it is one
        np.where(np.tri(6) > 0, RANDOM.normal(size=(6, 6)), 0).astype(FLOAT),
        np.float16(RANDOM.normal(size=(4, 4))),
        RANDOM.integers(-128, 128, (8, 8)).astype(np.int8),
        RANDOM.integers(0, 16, (8, 8)).astype(np.uint8),
        RANDOM.integers(-8, 8, (64, 16)),
        RANDOM.integers(0, 2, (8, 8)).astype(bool),
        np.arange(4, dtype=np.int8),
    ],
)
def test_secret(values: np.ndarray) -> None:
    assert seen(values) == WEIGHT


@pytest.mark.parametrize("values", [np.int64(50256), np.full(40, 50257)])
def test_an_integer_that_may_be_trained_is_asked_for(values: np.ndarray) -> None:
    """It is not asked for if it decides a shape or an index, or if data are compared with it."""
    assert seen(values) == Finding("public", "one integer, for neither a shape nor an index", doubtful=True)
    assert not seen(np.int64(50256), node("Equal", ("x", "w"))).doubtful
    assert not seen(np.int64(50256), node("Reshape", ("x", "w"))).doubtful
    assert seen(values.astype(np.int32)) == WEIGHT


@pytest.mark.parametrize("values", [np.zeros(8), np.ones(8), np.zeros((8, 8)), np.full((8, 8), 0.5)])
def test_one_number_throughout_is_secret(values: np.ndarray) -> None:
    """For example an untrained bias; but a value made from it and from structure is judged anew."""
    assert seen(values.astype(FLOAT), PRODUCT) == Finding("secret", "weight")
    assert secrets_of(classify(graph(values.astype(FLOAT)))) == []
    assert secrets_of(classify(graph(values.astype(FLOAT)), secret=["w"])) == ["w"]
    assert seen((values + 0.3).astype(FLOAT)) == WEIGHT


def test_one_number_in_the_place_of_a_weight_is_a_weight() -> None:
    for bias in (np.array([0.3], FLOAT), np.array([0.5], FLOAT)):
        assert seen(bias, node("Gemm", ("x", "v", "w"))) == WEIGHT
        assert seen(bias, node("MatMul", ("x", "v"), "h"), node("Add", ("h", "w"))) == WEIGHT
        layout = node("Reshape", ("h", "s"), "r")
        assert seen(bias, node("MatMul", ("x", "v"), "h"), layout, node("Add", ("r", "w"))) == WEIGHT
        assert seen(bias, node("PRelu", ("x", "w"))) == WEIGHT
    epsilon = np.array([1e-5], FLOAT)
    public = Finding("public", "round number")
    assert seen(epsilon, node("Mul", ("x", "x"), "h"), node("Add", ("h", "w"))) == public


@pytest.mark.parametrize("number", [0.3, 0.37, -0.1307, 0.3081, 4.6052, 1.5e-4, 0.2137, 54.37, 1.5e8, 1.0001])
@pytest.mark.parametrize("op", ["Mul", "Add", "Sub", "Div", "Pow", "Max", "Where", "PRelu", "Less"])
def test_a_trained_number_is_a_weight(number: float, op: str) -> None:
    """For example the factor of a residual, a logit scale, a slope, a mean, a threshold."""
    for shape in ((), (1,), (1, 1, 1)):
        inputs = ("ids", "x", "w") if op == "Where" else ("x", "w")
        assert seen(np.full(shape, number, FLOAT), node(op, inputs)) == WEIGHT


def test_a_threshold_is_a_weight_wherever_the_outcome_goes() -> None:
    less, cast = node("Less", ("x", "w"), "b"), node("Cast", ("b",), "i")
    assert seen(FLOAT(0.37), less, cast, node("Gather", ("v", "i"))) == WEIGHT
    assert seen(FLOAT(37.5), node("Less", ("ids", "w"), "b"), cast, node("Gather", ("v", "i"))) == WEIGHT
    counted = node("Shape", ("x",), "n")
    bucket = [counted, node("Mul", ("n", "w"), "b"), cast, node("Gather", ("v", "i"))]
    assert seen(FLOAT(0.37), *bucket) == Finding("public", "number that decides indices")


def test_half_precision_has_fewer_round_numbers() -> None:
    for number in (87.0, 0.08837890625, 1 / 3, 1.25):
        value = graph(FLOAT(np.float16(number)), node("Mul", ("x", "w")))
        assert classify(value, coarse=True)["w"] == WEIGHT
    for number in (0.125, 3.0, 1e-5, -1e4, np.finfo(np.float16).min):
        value = graph(FLOAT(np.float16(number)), node("Mul", ("x", "w")))
        assert not classify(value, coarse=True)["w"].secret


def test_a_scale_that_was_folded_away_scales_nothing() -> None:
    name, ones = f"{ONES}8", np.ones(8, FLOAT)

    def found(values: np.ndarray, *nodes: Node) -> Finding:
        return classify(Graph("g", {}, {}, list(nodes), {name: initializer(name, values)}, 24))[name]

    norm = node("LayerNormalization", ("x", name, "v"))
    assert found(ones, norm) == Finding("public", "ones")
    assert found(ones, norm, node("Add", ("x", name), "z")).secret
    assert found(ones, node("LayerNormalization", ("x", "v", name))).secret
    nearly = np.where(np.arange(8) == 3, FLOAT(1.001), ones)
    assert found(nearly, norm) == WEIGHT


def test_ones_that_a_model_brings_are_a_weight_like_any_other() -> None:
    assert seen(np.ones(8, FLOAT), node("LayerNormalization", ("x", "w", "v"))).secret


def test_what_decides_shapes_and_indices_is_public() -> None:
    shape = np.array([2, -1, 7, 3])
    shapes = Finding("public", "integers that decide shapes")
    assert seen(shape, node("Reshape", ("x", "w"))) == shapes
    assert seen(shape, node("Gather", ("x", "w"))) == Finding("public", "integers that decide indices")
    cast = node("Cast", ("w",), "c")
    assert seen(shape, cast, node("Reshape", ("x", "c"))) == shapes
    sizes = np.array([1, 1, 1.7, 1.7], FLOAT)
    assert seen(sizes, node("Resize", ("x", "", "w"))) == Finding("public", "numbers that decide shapes")


def test_what_is_read_for_its_shape_alone_is_a_weight() -> None:
    values = RANDOM.integers(-8, 8, (8, 8))
    assert seen(values, node("Shape", ("w",))) == WEIGHT
    assert seen(values, node("Shape", ("w",), "n"), PRODUCT) == WEIGHT


def test_indices_of_no_known_form_are_doubtful() -> None:
    """They may be a compressed weight, or features that training selected."""
    gather = node("Gather", ("v", "w"))
    for values in (RANDOM.integers(0, 16, (64, 8)), np.sort(RANDOM.choice(500, 40, replace=False))):
        doubt = Finding("public", "integers of no known form, which decide indices", doubtful=True)
        assert seen(values, gather) == doubt
    assert seen(np.arange(64).reshape(8, 8).T, gather) == Finding("public", "a grid of positions")


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_whole_numbers_that_data_meet_are_weights(kind: type) -> None:
    values = RANDOM.integers(0, 100, (8, 8)).astype(kind)
    cast, scale = node("Cast", ("w",), "c"), node("Mul", ("c", "s"), "f")
    assert seen(values, cast, scale, node("MatMul", ("x", "f"))) == WEIGHT
    low, high = node("BitwiseAnd", ("w", "m"), "c"), node("BitShift", ("w", "n"), "d")
    both = [node("Concat", ("c", "d"), "u"), node("Cast", ("u",), "f"), node("MatMul", ("x", "f"))]
    assert seen(values, low, high, *both) == WEIGHT
    assert seen(values, node("Mod", ("w", "m"), "c"), node("Cast", ("c",), "f"), scale, PRODUCT) == WEIGHT
    assert seen(values, node("Gather", ("w", "ids"), "c"), node("Cast", ("c",), "f")) == WEIGHT
    assert seen(values, node("Less", ("ids", "w"), "c"), node("Where", ("c", "x", "v"))) == WEIGHT
    points = values[0]
    assert seen(points, node("Sub", ("q", "w"), "c"), node("Mul", ("c", "s"), "f")) == WEIGHT


@pytest.mark.parametrize("op", ["DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul"])
def test_quantised_weights_and_their_scales(op: str) -> None:
    kernel = {"DequantizeLinear": 0, "MatMulInteger": 1, "ConvInteger": 1, "QLinearMatMul": 3}[op]
    inputs = ["a", "b", "c", "d", "e", "f", "g", "h"]
    inputs[kernel] = "w"
    assert seen(np.arange(4, dtype=np.int8), node(op, tuple(inputs))) == WEIGHT
    assert seen(np.uint8(117), node("Sub", ("q", "w"))) == WEIGHT
    assert seen(np.float32(0.5), node("DequantizeLinear", ("q", "w"))) == WEIGHT


def test_texts_are_doubtful() -> None:
    assert seen(np.array(["malign", "benign"])) == Finding("public", "text", doubtful=True)


def test_patterns_overrule_and_secret_wins() -> None:
    weight = graph(RANDOM.normal(size=(6, 6)).astype(FLOAT))
    assert classify(weight, public=["w*"])["w"] == Finding("public", "pattern 'w*'")
    assert classify(weight, public=["w"], secret=["?"])["w"] == Finding("secret", "pattern '?'")
    assert classify(graph(FLOAT(2)), secret=["w"])["w"] == Finding("secret", "pattern 'w'")


def test_a_pattern_takes_brackets_in_a_name_as_they_stand() -> None:
    name = "layers[0].scale"
    one = Graph("g", {}, {}, [], {name: initializer(name, FLOAT(2))}, 24)
    assert classify(one, secret=[name])[name] == Finding("secret", f"pattern '{name}'")


@pytest.mark.parametrize("kind", ["public", "secret"])
def test_a_pattern_that_matches_nothing_is_an_error(kind: str) -> None:
    with pytest.raises(ConfigError, match="wieght"):
        classify(graph(FLOAT(2)), **{kind: ["wieght"]})


@pytest.mark.parametrize("path", sorted(DATA.glob("*.onnx")), ids=lambda p: p.stem)
def test_exported_models(path: Path) -> None:
    model = load(path)
    canonicalise(model)
    constants = to_graph(model)
    for name, found in classify(constants).items():
        constant = constants.initializers[name]
        architecture = found.reason in ("rotary frequencies", "ones")
        if constant.dtype.kind != "f" or constant.size == 1 or architecture:
            assert not found.secret, name
            assert not found.doubtful, name
        else:
            assert found.secret, name
