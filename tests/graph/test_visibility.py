"""Weights are secret, what the architecture alone determines is public, the owner's patterns overrule."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.finding import Finding
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, Initializer, Node, ValueType, to_graph
from onnxpuma.graph.visibility import ONES, classify, secrets_of

DATA = Path(__file__).parent / "data"
FLOAT = np.float32
RANDOM = np.random.default_rng(3)


def initializer(name: str, values: object) -> Initializer:
    array = np.asarray(values)
    return Initializer(name, array.dtype, array.shape, ir.tensor(array))


def graph(values: object, *nodes: Node) -> Graph:
    inputs = {"x": ValueType(np.dtype(FLOAT), None), "ids": ValueType(np.dtype(np.int64), None)}
    return Graph("g", inputs, {}, list(nodes), {"w": initializer("w", values)}, 24)


def seen(values: object, *nodes: Node) -> Finding:
    return classify(graph(values, *nodes))["w"]


def node(op: str, inputs: tuple[str, ...], output: str = "y") -> Node:
    return Node(f"{op} {output}", op, "", 1, inputs, (output,))


WEIGHT = Finding("secret", "weight")
PRODUCT = node("MatMul", ("x", "w"))


def waves(rows: int, columns: int) -> np.ndarray:
    angles = np.arange(rows)[:, None] / 10000 ** (np.arange(columns // 2) / (columns // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


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
        np.array([1.0, 0.5, 0.25], FLOAT),  # falls like frequencies, but nothing says that it is
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
    """Unless it decides a shape or an index, or data are compared with it."""
    assert seen(values) == Finding("public", "one integer, for neither a shape nor an index", doubtful=True)
    assert not seen(np.int64(50256), node("Equal", ("x", "w"))).doubtful
    assert not seen(np.int64(50256), node("Reshape", ("x", "w"))).doubtful
    assert seen(values.astype(np.int32)) == WEIGHT


@pytest.mark.parametrize("values", [np.zeros(8), np.ones(8), np.zeros((8, 8)), np.full((8, 8), 0.5)])
def test_one_number_throughout_is_secret(values: np.ndarray) -> None:
    """A bias that nobody trained; but what is made of it and of structure is judged anew."""
    assert seen(values.astype(FLOAT), PRODUCT) == Finding("secret", "weight")
    assert secrets_of(classify(graph(values.astype(FLOAT)))) == []
    assert secrets_of(classify(graph(values.astype(FLOAT)), secret=["w"])) == ["w"]
    assert seen((values + 0.3).astype(FLOAT)) == WEIGHT


@pytest.mark.parametrize("scale", [1 / 255, 1 / 64, 1e-3, 1e-6])
@pytest.mark.parametrize("shape", [(8, 4), (64, 16), (784, 32), (16, 784)])
def test_small_numbers_are_no_waves(scale: float, shape: tuple[int, int]) -> None:
    """A first layer behind pixels over 255, low rank factors, embeddings that begin small."""
    assert seen((RANDOM.normal(size=shape) * scale).astype(FLOAT), PRODUCT) == WEIGHT


def test_smooth_rows_from_zero_are_no_waves() -> None:
    values = np.cumsum(RANDOM.normal(size=(64, 8)), axis=0) * 1e-3
    values[0] = 0
    assert seen(values.astype(FLOAT)) == WEIGHT


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4, 1e-5])
def test_a_table_that_was_trained_is_a_weight(noise: float) -> None:
    table = waves(128, 32)
    assert seen((table + RANDOM.normal(size=table.shape) * noise).astype(FLOAT)) == WEIGHT
    one = table.copy()
    one[40, 7] += FLOAT(10 * noise)
    assert seen(one) == WEIGHT


def test_waves_of_frequencies_that_are_no_series_are_a_weight() -> None:
    angles = np.arange(64)[:, None] * np.sort(RANDOM.uniform(0.01, 1, 8))[::-1]
    assert seen(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(FLOAT)) == WEIGHT


def test_a_table_of_one_size_times_another_is_a_weight() -> None:
    assert seen(waves(64, 16) * FLOAT(0.3)) == WEIGHT


@pytest.mark.parametrize("order", ["halves", "turns", "cosines twice", "sines twice", "cosines", "sines"])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 1_000_000.0])
def test_rotary_caches_in_every_precision_and_order(order: str, kind: str, base: float) -> None:
    frequencies = (1 / FLOAT(base) ** (np.arange(0, 64, 2, dtype=FLOAT) / FLOAT(64))).astype(FLOAT)
    angles = (np.arange(300, dtype=FLOAT)[:, None] * frequencies).astype(FLOAT)
    sines, cosines = np.sin(angles).astype(FLOAT), np.cos(angles).astype(FLOAT)
    table = {
        "halves": np.concatenate([sines, cosines], axis=1),
        "turns": np.stack([sines, cosines], axis=2).reshape(300, -1),
        "cosines twice": np.concatenate([cosines, cosines], axis=1),
        "sines twice": np.repeat(sines, 2, axis=1),
        "cosines": cosines,
        "sines": sines,
    }[order]
    assert seen(rounded(table, kind)) == Finding("public", "sines and cosines of positions")
    trained = rounded(table + RANDOM.normal(size=table.shape).astype(FLOAT) * FLOAT(0.02), kind)
    assert seen(trained) == WEIGHT


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "bfloat16":
        bits = np.ascontiguousarray(values, FLOAT).view(np.uint32)
        return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(FLOAT)
    return values.astype(kind).astype(FLOAT)


def test_sines_on_a_grid() -> None:
    down, across = np.divmod(np.arange(28), 7)
    omega = 1 / 10000 ** (np.arange(4) / 4)
    parts = [f(p[:, None] * omega) for p in (across, down) for f in (np.sin, np.cos)]
    table = np.concatenate(parts, axis=1).astype(FLOAT)
    public = Finding("public", "sines and cosines of positions")
    assert seen(table) == public
    assert seen(np.concatenate([np.zeros((1, 16), FLOAT), table])[None]) == public
    assert seen(table[:, ::-1]) == WEIGHT
    assert seen((table + RANDOM.normal(size=table.shape) * 1e-4).astype(FLOAT)) == WEIGHT


def test_a_row_for_padding() -> None:
    table = waves(40, 16)
    table[1] = 0
    assert not seen(table).secret
    table[9] = 0
    assert seen(table) == WEIGHT


def test_frequencies_are_known_by_where_they_go() -> None:
    falling = (1 / 10000 ** (np.arange(8) / 8)).astype(FLOAT)
    angles = [node("Mul", ("ids", "w"), "a"), node("Concat", ("a", "a"), "b")]
    tables = [node("Cos", ("b",), "c"), node("Sin", ("b",), "d")]
    known = Finding("public", "rotary frequencies")
    assert seen(falling, *angles, *tables) == known
    assert seen(falling / 4, *angles, *tables) == known
    assert seen(falling.astype(np.float16).astype(FLOAT), *angles, *tables) == known
    elsewhere = node("Add", ("a", "x"), "z")
    assert seen(falling, *angles, *tables, elsewhere) == WEIGHT
    shaped = node("Shape", ("a",), "n")
    assert seen(falling, *angles, *tables, shaped) == known
    for other in (RANDOM.normal(size=8), falling * (1 + 1e-4 * RANDOM.normal(size=8)), falling[::-1]):
        found = seen(other.astype(FLOAT), *angles, *tables)
        assert found == Finding("public", "frequencies of no known series", doubtful=True)
    matrix = RANDOM.normal(size=(8, 8)).astype(FLOAT)  # sin(x W) of a network of sines
    assert seen(matrix, node("MatMul", ("x", "w"), "a"), node("Sin", ("a",), "b")) == WEIGHT
    assert seen(falling, node("Mul", ("x", "w"), "a"), node("Sin", ("a",), "b")) == WEIGHT


def test_frequencies_that_are_stretched() -> None:
    """As in Llama 3: those of long waves are divided, those between moved part of the way."""
    angles = [node("Mul", ("ids", "w"), "a"), node("Cos", ("a",), "c")]
    plain = 500000.0 ** (-np.arange(32) / 32)
    part = np.clip((8192 * plain / (2 * np.pi) - 1) / 3, 0, 1)
    stretched = ((1 - part) * plain / 8 + part * plain).astype(FLOAT)
    assert seen(stretched, *angles) == Finding("public", "rotary frequencies")
    searched = (plain / (1 + np.sort(RANDOM.uniform(0, 7, 32)))).astype(FLOAT)
    assert seen(searched, *angles).doubtful


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
    """The factor of a residual, a logit scale, a slope, a mean, a threshold."""
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
    """They may be a compressed weight, or features that a training chose."""
    gather = node("Gather", ("v", "w"))
    for values in (RANDOM.integers(0, 16, (64, 8)), np.sort(RANDOM.choice(500, 40, replace=False))):
        doubt = Finding("public", "integers of no known form, which decide indices", doubtful=True)
        assert seen(values, gather) == doubt
    assert seen(np.arange(64).reshape(8, 8).T, gather) == Finding("public", "a grid of positions")


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("length", [16, 77, 512])
def test_buckets_of_distances(both_ways: bool, length: int) -> None:
    """T5's, computed for a fixed length."""
    distance = np.arange(length)[None] - np.arange(length)[:, None]
    side = 16 if both_ways else 32
    size = np.abs(distance) if both_ways else -np.minimum(distance, 0)
    exact = side // 2
    far = exact + (np.log(np.maximum(size, 1) / exact) / np.log(128 / exact) * (side - exact)).astype(int)
    buckets = np.where(size < exact, size, np.minimum(far, side - 1)) + (distance > 0) * side * both_ways
    gather = node("Gather", ("v", "w"))
    assert seen(buckets, gather) == Finding("public", "distances of positions")
    buckets[3, 5] += 1
    assert seen(buckets, gather).doubtful


def test_distances_as_reals_and_side_by_side() -> None:
    distance = np.arange(12)[:, None] - np.arange(12)[None]
    assert not seen(distance.astype(FLOAT)).secret
    assert seen((distance + RANDOM.integers(0, 2, (12, 12))).astype(FLOAT)) == WEIGHT
    assert seen(np.arange(0, 64, 2, dtype=FLOAT)) == Finding("public", "positions")
    y, x = np.divmod(np.arange(16), 4)
    both = np.stack([y[:, None] - y, x[:, None] - x], axis=2)
    gather = node("Gather", ("v", "w"))
    assert not seen(both, gather).doubtful
    for banded in (2048 * np.eye(8), np.arange(64).reshape(8, 8), distance):
        assert seen(banded.astype(FLOAT), PRODUCT) == WEIGHT
    assert seen((2048 * np.eye(8)).astype(FLOAT)) == WEIGHT
    both[3, 4, 1] = 2
    assert seen(both, gather).doubtful


def test_a_number_on_its_way_to_buckets_of_distances() -> None:
    """DeBERTa's: distances, as reals, over the logarithm of a bound, and so on to indices."""
    distance = (np.arange(12)[:, None] - np.arange(12)[None]).astype(FLOAT)
    constants = {"w": initializer("w", FLOAT(2.7568405)), "d": initializer("d", distance)}
    nodes = [
        node("Abs", ("d",), "a"),
        node("Div", ("a", "w"), "b"),
        node("Ceil", ("b",), "c"),
        node("Where", ("k", "c", "d"), "e"),
        node("Cast", ("e",), "i"),
        node("GatherElements", ("x", "i")),
    ]
    inputs = {"x": ValueType(np.dtype(FLOAT), None)}
    found = classify(Graph("g", inputs, {}, nodes, constants, 24))
    assert found["w"] == Finding("public", "number that decides indices")
    assert not found["d"].secret


def test_a_number_that_a_branch_hands_on_to_indices() -> None:
    """TorchScript's DeBERTa: buckets go through an If in every layer. What data may go through beside it is
    no structure, and what a body of a loop hands on is open."""

    def found(op: str, other: str) -> Finding:
        handed = [
            Graph("b", {}, {name: ValueType(np.dtype(FLOAT), None)}, [], {}, 24) for name in ("m", other)
        ]
        nodes = [
            node("Mul", ("d", "w"), "m"),
            node("Neg", ("d",), "n"),
            Node("choice", op, "", 1, ("k",), ("z",), {"then_branch": handed[0], "else_branch": handed[1]}),
            node("Cast", ("z",), "i"),
            node("GatherElements", ("x", "i")),
        ]
        constants = {name: initializer(name, FLOAT(2.7568405)) for name in ("w", "d")}
        inputs = {"x": ValueType(np.dtype(FLOAT), None)}
        return classify(Graph("g", inputs, {}, nodes, constants, 24))["w"]

    assert found("If", "n") == Finding("public", "number that decides indices")
    assert found("If", "x") == WEIGHT
    assert found("Scan", "n") == WEIGHT


def test_distances_within_a_window() -> None:
    """Swin's, and BEiT's with a class token."""
    y, x = np.divmod(np.arange(49), 7)
    index = (y[:, None] - y + 6) * 13 + x[:, None] - x + 6
    gather = node("Gather", ("v", "w"))
    known = Finding("public", "distances in a window")
    assert seen(index, gather) == known
    assert seen(index.reshape(-1), gather) == known
    whole = np.full((50, 50), 169)
    whole[1:, 1:], whole[1:, 0], whole[0, 0] = index, 170, 171
    assert seen(whole, gather) == known
    assert seen(RANDOM.permutation(index.reshape(-1)), gather).doubtful


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


def test_masks_that_were_pruned_are_weights() -> None:
    kept = RANDOM.integers(0, 2, (16, 16)).astype(bool)
    assert seen(kept, node("Where", ("w", "x", "v"))) == WEIGHT
    assert seen(kept, node("Cast", ("w",), "c"), node("Mul", ("x", "c"))) == WEIGHT
    assert seen(kept.astype(FLOAT), node("Mul", ("x", "w"))) == WEIGHT
    assert seen(kept[0], node("Where", ("w", "x", "v"))) == WEIGHT
    nearly = np.tri(16, dtype=bool)
    nearly[9, 2] = False
    assert seen(nearly, node("Where", ("w", "x", "v"))) == WEIGHT
    assert seen(nearly, node("Compress", ("x", "w"))) == WEIGHT


def test_a_mask_in_no_order_is_a_weight() -> None:
    """Which positions it leaves out may have been chosen."""
    kept = RANDOM.integers(0, 2, (16, 16)).astype(bool)
    for filler in (-np.inf, -1e4, np.finfo(FLOAT).min, -17234.5):
        assert seen(np.where(kept, 0, filler).astype(FLOAT), node("Add", ("x", "w"))) == WEIGHT
    ordered = np.where(np.tri(16, dtype=bool), 0, -17234.5).astype(FLOAT)
    assert seen(ordered, node("Add", ("x", "w"))) == WEIGHT


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


def slopes(heads: int) -> np.ndarray:
    """As Bloom's and MPT's code computes them."""
    power = 2 ** math.ceil(math.log2(heads))
    all_of = 1 / 2 ** (np.arange(1, power + 1) * (8 / power))
    return all_of if power == heads else np.concatenate([all_of[1::2], all_of[::2]])[:heads]


@pytest.mark.parametrize("heads", [4, 8, 12, 16, 20, 71, 112])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_slopes_of_alibi_are_public_and_others_are_not(heads: int, kind: type) -> None:
    exact = slopes(heads).astype(kind).astype(np.float32).reshape(heads, 1, 1)
    moved = exact * (1 + np.where(np.arange(heads) == heads // 2, 1e-2, 0)).reshape(heads, 1, 1)
    for op in ("Mul", "Add"):
        assert seen(exact, node(op, ("x", "w"))).reason == "slopes of ALiBi"
        assert seen(moved.astype(np.float32), node(op, ("x", "w"))).secret
    assert seen(exact, node("PRelu", ("x", "w"))).secret
