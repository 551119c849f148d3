"""Which tables, masks and series belong to the architecture, and which may have been trained."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxpuma.graph.finding import Finding
from onnxpuma.graph.model import Graph, Node, ValueType
from onnxpuma.graph.visibility import classify
from tests.graph.constants import FLOAT, PRODUCT, RANDOM, WEIGHT, initializer, node, seen, waves


@pytest.mark.parametrize("scale", [1 / 255, 1 / 64, 1e-3, 1e-6])
@pytest.mark.parametrize("shape", [(8, 4), (64, 16), (784, 32), (16, 784)])
def test_small_numbers_are_no_waves(scale: float, shape: tuple[int, int]) -> None:
    """A first layer after pixels over 255, low-rank factors, embeddings with a small initialisation."""
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
    """As in Llama 3: low frequencies are divided, those in between are interpolated."""
    angles = [node("Mul", ("ids", "w"), "a"), node("Cos", ("a",), "c")]
    plain = 500000.0 ** (-np.arange(32) / 32)
    part = np.clip((8192 * plain / (2 * np.pi) - 1) / 3, 0, 1)
    stretched = ((1 - part) * plain / 8 + part * plain).astype(FLOAT)
    assert seen(stretched, *angles) == Finding("public", "rotary frequencies")
    searched = (plain / (1 + np.sort(RANDOM.uniform(0, 7, 32)))).astype(FLOAT)
    assert seen(searched, *angles).doubtful


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("length", [16, 77, 512])
def test_buckets_of_distances(both_ways: bool, length: int) -> None:
    """T5's buckets, computed for a fixed length."""
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
    """DeBERTa's: distances, as reals, are divided by the logarithm of a bound, and end as indices."""
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
    """TorchScript's DeBERTa passes buckets through an If per layer. A number is not structure if data may
    pass beside it; a value that a loop body returns is undecided."""

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
    """Swin's distances, and BEiT's with a class token."""
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
    """The positions that it leaves out may have been chosen."""
    kept = RANDOM.integers(0, 2, (16, 16)).astype(bool)
    for filler in (-np.inf, -1e4, np.finfo(FLOAT).min, -17234.5):
        assert seen(np.where(kept, 0, filler).astype(FLOAT), node("Add", ("x", "w"))) == WEIGHT
    ordered = np.where(np.tri(16, dtype=bool), 0, -17234.5).astype(FLOAT)
    assert seen(ordered, node("Add", ("x", "w"))) == WEIGHT


def slopes(heads: int) -> np.ndarray:
    """Slopes as the code of Bloom and MPT computes them."""
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
