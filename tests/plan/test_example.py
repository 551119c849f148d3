"""Random inputs fit the model: sizes by name, ids below the vocabulary, masks of ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.example import choose_shapes, draw_inputs, symbols
from onnxpuma.plan.inputs.spec import InputSpec
from onnxpuma.plan.prepare import prepare
from onnxpuma.plan.shapes import check_shapes

DATA = Path(__file__).resolve().parents[1] / "graph" / "data"


@pytest.fixture(scope="module")
def bert() -> Blueprint:
    return prepare(DATA / "bert-torchscript-17.onnx")[0]


def test_sizes_go_to_the_symbols_they_name(bert: Blueprint):
    shapes = choose_shapes(bert, {"sequence": 5})
    assert set(shapes) == set(bert.inputs)
    assert {shape[-1] for shape in shapes.values()} == {5}
    check_shapes(bert, shapes)


def test_a_batch_is_one_unless_asked_for(bert: Blueprint):
    assert symbols(bert)["batch"] == 1
    assert all(shape[0] == 3 for shape in choose_shapes(bert, {"batch": 3}).values())


def test_unknown_symbols_and_empty_sizes_are_refused(bert: Blueprint):
    with pytest.raises(ConfigError, match="no dimension 'length'"):
        choose_shapes(bert, {"length": 3})
    with pytest.raises(ConfigError, match="'batch' is 0"):
        choose_shapes(bert, {"batch": 0})


def test_a_plan_can_be_made_for_what_is_drawn(bert: Blueprint):
    shapes = choose_shapes(bert, {"batch": 4, "sequence": 8})
    drawn = draw_inputs(bert, shapes, seed=1)
    vocabulary = bert.inputs["input_ids"].vocabulary
    assert vocabulary is not None
    assert 0 <= drawn["input_ids"].min() < drawn["input_ids"].max() < vocabulary
    for name, spec in bert.inputs.items():
        assert drawn[name].dtype == spec.dtype
        assert drawn[name].shape == shapes[name]
    compile_plan(bert, shapes, {name: drawn[name] for name in bert.public_inputs})


def test_drawn_values_are_what_their_names_promise():
    names = {"attention_mask": "int64", "token_type_ids": "int64", "position_ids": "int32", "flag": "bool"}
    specs = {n: InputSpec(n, np.dtype(kind), ("batch", 3), secret=False) for n, kind in names.items()}
    specs["pixels"] = InputSpec("pixels", np.dtype("float32"), ("batch", 3), secret=True)
    drawn = draw_inputs(SimpleNamespace(inputs=specs), dict.fromkeys(specs, (2, 3)))  # type: ignore[arg-type]
    assert drawn["attention_mask"].tolist() == [[1, 1, 1]] * 2
    assert drawn["token_type_ids"].tolist() == [[0, 0, 0]] * 2
    assert drawn["position_ids"].tolist() == [[0, 1, 2]] * 2
    assert drawn["flag"].all()
    assert drawn["pixels"].std() > 0.1
    assert {n: drawn[n].dtype for n in specs} == {n: spec.dtype for n, spec in specs.items()}


def test_the_seed_decides_what_is_drawn(bert: Blueprint):
    shapes = choose_shapes(bert, {"sequence": 8})
    first, again, other = (draw_inputs(bert, shapes, seed)["input_ids"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("past", "sequence", "total"),
    [("past", "sequence", "total"), ("past_length", "length", "past_length + length"), ("p", "n", "p + 1")],
)
def test_a_dimension_that_is_a_sum_follows_its_parts(past: str, sequence: str, total: str):
    kind = np.dtype("int64")
    specs = {
        "input_ids": InputSpec("input_ids", kind, ("batch", sequence), secret=True),
        "attention_mask": InputSpec("attention_mask", kind, ("batch", total), secret=False),
        "past_key_values.0.key": InputSpec("past_key_values.0.key", kind, ("batch", 2, past, 8), secret=True),
    }
    model = SimpleNamespace(inputs=specs)
    new = 1 if total == "p + 1" else 5
    assert symbols(model)[total] == (33 if total == "p + 1" else 64)  # type: ignore[arg-type]
    shapes = choose_shapes(model, {past: 7, sequence: new})  # type: ignore[arg-type]
    assert shapes["attention_mask"] == (1, 7 + new)
    shapes = choose_shapes(model, {past: 7, sequence: new, total: 20})  # type: ignore[arg-type]
    assert shapes["attention_mask"] == (1, 20)


def test_a_cache_may_be_empty():
    shapes = {
        "past_key": ("batch", 2, "past", 4),
        "ids": ("batch", "sequence"),
        "past_mask": ("batch", "all"),
    }
    specs = {
        name: InputSpec(name, np.dtype("float32" if name == "past_key" else "int64"), shape, secret=True)
        for name, shape in shapes.items()
    }
    model = SimpleNamespace(inputs=specs)
    assert choose_shapes(model, {"past": 0})["past_key"] == (1, 2, 0, 4)  # type: ignore[arg-type]
    for symbol in ("batch", "sequence", "all"):
        with pytest.raises(ConfigError, match=f"'{symbol}' is 0"):
            choose_shapes(model, {symbol: 0})  # type: ignore[arg-type]
