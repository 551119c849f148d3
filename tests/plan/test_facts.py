"""Facts that an owner tells of weights, and ranges that it declares of inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxpuma.errors import ConfigError, PlanError
from onnxpuma.ops.sight import measured, of_values
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.declared import declare, declare_all
from onnxpuma.plan.weights.facts import bound_of, number, rounded
from onnxpuma.plan.weights.uses import head_sizes
from tests.plan.bounded import made


@given(st.floats(min_value=1e-20, max_value=1e20))
def test_a_fact_is_rounded_up_to_a_quarter_of_a_power_of_two(value: float) -> None:
    assert value <= number(rounded(value)) <= value * 2**0.25 * (1 + 1e-12)
    assert rounded(number(rounded(value))) == rounded(value)


def test_facts_of_a_factor() -> None:
    rng = np.random.default_rng(3)
    w, b = rng.normal(size=(24, 32)), rng.uniform(1, 2, 32)
    shape = np.array([2, 6, 4, 8])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["p", "b"], ["q"], name="bias"),
        helper.make_node("Reshape", ["q", "shape"], ["y"], name="heads"),
    ]
    blueprint, _ = made(nodes, {"w": w, "b": b, "shape": shape})
    found, bias = bound_of(blueprint.facts["w"]), bound_of(blueprint.facts["b"])
    heads = w.reshape(24, 4, 8).transpose(1, 0, 2)
    wanted = {
        "column": np.linalg.norm(w, axis=0).max(),
        "sum": np.abs(w).sum(axis=0).max(),
        "spectral": np.linalg.norm(w, 2),
        "spectral 8": max(np.linalg.norm(head, 2) for head in heads),
    }
    assert found.matrix.keys() == wanted.keys()
    for key, value in wanted.items():
        loose = 1.2
        assert value <= found.matrix[key] <= loose * value, key
    assert np.abs(w).max() <= found.size <= 1.2 * np.abs(w).max()
    assert 0.8 * b.min() <= bias.low <= b.min(), "the least positive number is told"
    assert np.linalg.norm(b.reshape(4, 8), axis=1).max() <= bias.blocks[8]


def test_of_few_numbers_less_is_told() -> None:
    blueprint, _ = made([helper.make_node("Mul", ["x", "w"], ["y"], name="scaled")], {"w": np.array([0.3])})
    found = bound_of(blueprint.facts["w"])
    assert found.low == pytest.approx(0.25, rel=1e-5)
    assert found.high == 0.5


def test_sizes_of_heads() -> None:
    assert head_sizes(768, (set(), {12})) == [64]
    assert head_sizes(2304, (set(), {12})) == [64, 192], "queries, keys and values in one"
    assert head_sizes(192, ({64}, {9, 3})) == [64]
    assert head_sizes(1 << 15, ({64}, set())) == [], "a vocabulary"


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_lengths_of_public_arrays_are_no_less_than_they_are(seed: int, size: float) -> None:
    values = np.random.default_rng(seed).normal(0, size, (3, 5))
    for power, norm in ((2, np.linalg.norm(values, axis=-1)), (1, np.abs(values).sum(axis=-1))):
        assert norm.max() <= measured(values, (-1,), power) <= norm.max() * (1 + 1e-4)
    assert of_values(values).low == values.min()


@pytest.mark.parametrize("ranges", [{"y": (0, 1)}, {"x": (1, 0)}, {"x": (0, 1e14)}])
def test_ranges_that_are_none(ranges: dict[str, tuple[float, float]]) -> None:
    blueprint, _ = made([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones(24)})
    with pytest.raises(ConfigError):
        declare_all(blueprint, ranges)


def test_facts_are_part_of_what_is_agreed(tmp_path: Path) -> None:
    blueprint, _ = made([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(24)})
    blueprint = declare(blueprint, {"x": (-1.0, 2.0)})
    blueprint.save(tmp_path)
    read = Blueprint.read(tmp_path)
    assert (read.facts, read.declared) == (blueprint.facts, {"x": [-1.0, 2.0]})
    larger = replace(blueprint, facts={"w": {"size": 12}})
    assert larger.digest != blueprint.digest
    replace(blueprint, facts={"nobody": {"size": 12}}).save(tmp_path)
    with pytest.raises(PlanError, match="names other facts"):
        Blueprint.read(tmp_path)
