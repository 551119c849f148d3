"""Weights are secret, what the architecture alone determines is public, the owner's patterns overrule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, Initializer, Node, to_graph
from onnxpuma.graph.visibility import ONES, classify

DATA = Path(__file__).parent / "data"
RANDOM = np.random.default_rng(3)


def initializer(name: str, values: object) -> Initializer:
    array = np.asarray(values)
    return Initializer(name, array.dtype, array.shape, ir.tensor(array))


def graph(values: object, *nodes: Node) -> Graph:
    return Graph("g", {}, {}, list(nodes), {"w": initializer("w", values)}, 24)


def node(op: str, inputs: tuple[str, ...], output: str = "y") -> Node:
    return Node(f"{op} {output}", op, "", 1, inputs, (output,))


def waves(rows: int, columns: int) -> np.ndarray:
    angles = np.arange(rows)[:, None] / 10000 ** (np.arange(columns // 2) / (columns // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


FLOAT = np.float32


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(5), "integers"),
        (np.array([True, False]), "booleans"),
        (FLOAT(0.125), "one number"),
        (np.array([[0.125]], FLOAT), "one number"),
        (np.zeros((0, 4), FLOAT), "empty"),
        (np.triu(np.full((6, 6), -np.inf, FLOAT), 1), "mask"),
        (np.triu(np.full((1, 1, 6, 6), np.finfo(FLOAT).min, FLOAT), 1), "mask"),
        (np.tri(6, dtype=FLOAT), "mask"),
        (np.tri(6, dtype=FLOAT).T[None, None], "mask"),
        (np.arange(12, dtype=FLOAT).reshape(1, 12), "positions"),
        (waves(50, 8), "sines and cosines of positions"),
        (waves(500, 64)[None], "sines and cosines of positions"),
    ],
)
def test_public(values: np.ndarray, reason: str) -> None:
    assert classify(graph(values)) == {"w": ("public", reason)}


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=(6, 6)).astype(FLOAT),
        RANDOM.normal(size=(64, 8)).astype(FLOAT),
        np.zeros(8, FLOAT),  # a bias nobody trained
        np.zeros((8, 8), FLOAT),
        np.ones(8, FLOAT),
        np.ones((8, 8), FLOAT),
        np.eye(8, dtype=FLOAT),
        np.sin(RANDOM.normal(size=(50, 8))).astype(FLOAT),
        np.array([1.0, 0.5, 0.25], FLOAT),  # falls like frequencies, but nothing says that it is
        np.where(np.tri(6) > 0, RANDOM.normal(size=(6, 6)), 0).astype(FLOAT),
        np.float16(RANDOM.normal(size=(4, 4))),
    ],
)
def test_secret(values: np.ndarray) -> None:
    assert classify(graph(values)) == {"w": ("secret", "weight")}


def test_frequencies_are_known_by_where_they_go() -> None:
    falling = (1 / 10000 ** (np.arange(8) / 8)).astype(FLOAT)
    angles = [node("Mul", ("position", "w"), "a"), node("Concat", ("a", "a"), "b")]
    tables = [node("Cos", ("b",), "c"), node("Sin", ("b",), "d")]
    assert classify(graph(falling, *angles, *tables))["w"] == ("public", "rotary frequencies")
    elsewhere = node("Add", ("a", "x"), "z")
    assert classify(graph(falling, *angles, *tables, elsewhere))["w"][0] == "secret"
    learned = RANDOM.normal(size=8).astype(FLOAT)
    assert classify(graph(learned, *angles, *tables))["w"][0] == "secret"
    matrix = RANDOM.normal(size=(8, 8)).astype(FLOAT)  # sin(x W) of a network of sines
    siren = [node("MatMul", ("x", "w"), "a"), node("Sin", ("a",), "b")]
    assert classify(graph(matrix, *siren))["w"][0] == "secret"


def test_one_number_in_the_place_of_a_weight_is_a_weight() -> None:
    bias = np.array([0.3], FLOAT)
    assert classify(graph(bias, node("Gemm", ("x", "v", "w"))))["w"] == ("secret", "weight")
    behind = [node("MatMul", ("x", "v"), "h"), node("Add", ("h", "w"))]
    assert classify(graph(bias, *behind))["w"] == ("secret", "weight")
    epsilon = [node("Mul", ("x", "x"), "h"), node("Add", ("h", "w"))]
    assert classify(graph(bias, *epsilon))["w"] == ("public", "one number")


def test_a_scale_that_was_folded_away_scales_nothing() -> None:
    name, ones = f"{ONES}8", np.ones(8, FLOAT)

    def seen(values: np.ndarray, *nodes: Node) -> tuple[str, str]:
        return classify(Graph("g", {}, {}, list(nodes), {name: initializer(name, values)}, 24))[name]

    norm = node("LayerNormalization", ("x", name, "v"))
    assert seen(ones, norm) == ("public", "ones")
    assert seen(ones, norm, node("Add", ("x", name), "z")) == ("secret", "weight")
    assert seen(ones, node("LayerNormalization", ("x", "v", name))) == ("secret", "weight")
    nearly = np.where(np.arange(8) == 3, FLOAT(1.001), ones)
    assert seen(nearly, norm) == ("secret", "weight")


def test_ones_that_a_model_brings_are_a_weight_like_any_other() -> None:
    norm = node("LayerNormalization", ("x", "w", "v"))
    assert classify(graph(np.ones(8, FLOAT), norm))["w"] == ("secret", "weight")


def test_quantised_weights_are_integers_and_secret() -> None:
    values = np.arange(4, dtype=np.int8)
    assert classify(graph(values, node("DequantizeLinear", ("w", "scale"))))["w"][0] == "secret"
    assert classify(graph(values, node("Gather", ("x", "w"))))["w"][0] == "public"


def test_patterns_overrule_and_secret_wins() -> None:
    weight = graph(RANDOM.normal(size=(6, 6)).astype(FLOAT))
    assert classify(weight, public=["w*"])["w"] == ("public", "pattern 'w*'")
    assert classify(weight, public=["w"], secret=["?"])["w"] == ("secret", "pattern '?'")
    assert classify(graph(FLOAT(2)), secret=["w"])["w"] == ("secret", "pattern 'w'")


def test_a_pattern_takes_brackets_in_a_name_as_they_stand() -> None:
    name = "layers[0].scale"
    one = Graph("g", {}, {}, [], {name: initializer(name, FLOAT(2))}, 24)
    assert classify(one, secret=[name])[name] == ("secret", f"pattern '{name}'")


@pytest.mark.parametrize("kind", ["public", "secret"])
def test_a_pattern_that_matches_nothing_is_an_error(kind: str) -> None:
    with pytest.raises(ConfigError, match="wieght"):
        classify(graph(FLOAT(2)), **{kind: ["wieght"]})


@pytest.mark.parametrize("path", sorted(DATA.glob("*.onnx")), ids=lambda p: p.stem)
def test_exported_models(path: Path) -> None:
    model = load(path)
    canonicalise(model)
    found = to_graph(model)
    for name, (visibility, reason) in classify(found).items():
        initializer = found.initializers[name]
        architecture = reason in ("rotary frequencies", "ones")
        if initializer.dtype.kind != "f" or initializer.size == 1 or architecture:
            assert visibility == "public", name
        else:
            assert (visibility, reason) == ("secret", "weight"), name
