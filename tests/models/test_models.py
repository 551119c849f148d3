"""Every shipped model is a valid file, scores as its card states, and is described in models/README.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tomlkit

MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = ["breast-cancer", "digits", "tales"]
IGNORED = -100  # the label of padding


def card(name: str) -> Any:
    return tomlkit.parse((MODELS / name / "model.toml").read_text()).unwrap()


def heldout(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODELS / name / "heldout.npz") as arrays:
        return arrays["inputs"], arrays["labels"]


def logits(name: str, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(MODELS / name / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["logits"], {card(name)["input"]["name"]: inputs})[0]


def test_no_folder_is_forgotten() -> None:
    assert sorted(path.parent.name for path in MODELS.glob("*/model.onnx")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_file_is_valid_small_and_says_nothing_of_a_machine(name: str) -> None:
    path = MODELS / name / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    assert path.stat().st_size < 1_000_000
    assert b"site-packages" not in path.read_bytes()
    model = onnx.load(path)
    assert {node.op_type for node in model.graph.node} >= {"Attention", "Gelu", "LayerNormalization"}
    assert {tensor.data_type for tensor in model.graph.initializer} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }


@pytest.mark.parametrize("name", NAMES)
def test_graph_takes_what_the_card_says(name: str) -> None:
    stated = card(name)
    graph = onnx.load(MODELS / name / "model.onnx").graph
    for value, side in ((graph.input[0], stated["input"]), (graph.output[0], stated["output"])):
        tensor = value.type.tensor_type
        assert value.name == side["name"]
        assert [axis.dim_param or axis.dim_value for axis in tensor.shape.dim] == side["shape"]
        assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) == np.dtype(side["dtype"])
    assert heldout(name)[0].dtype == np.dtype(stated["input"]["dtype"])


@pytest.mark.parametrize("name", NAMES)
def test_score_is_the_stated_one(name: str) -> None:
    stated = card(name)["heldout"]
    inputs, labels = heldout(name)
    assert len(inputs) == stated["examples"]
    outputs = logits(name, inputs)
    counted = labels != IGNORED
    accuracy = (outputs.argmax(axis=-1)[counted] == labels[counted]).mean()
    # half a unit of the last stated digit, and a rare near tie that another processor may decide differently
    assert accuracy == pytest.approx(stated["accuracy"], abs=2e-4)
    if "perplexity" in stated:
        likelihoods = np.exp(outputs - np.logaddexp.reduce(outputs, axis=-1, keepdims=True))[counted]
        surprise = -np.log(likelihoods[np.arange(len(likelihoods)), labels[counted]])
        assert np.exp(surprise.mean()) == pytest.approx(stated["perplexity"], abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_readme_quotes_the_card(name: str) -> None:
    stated = card(name)
    (row,) = (
        line for line in (MODELS / "README.md").read_text().splitlines() if line.startswith(f"| `{name}`")
    )
    assert f"{stated['weights']:,}" in row
    assert f"{stated['heldout']['examples']} " in row
    assert f"{100 * stated['heldout']['accuracy']:.1f} %" in row
    if "perplexity" in stated["heldout"]:
        assert f"{stated['heldout']['perplexity']}" in row


@pytest.mark.parametrize(("name", "least"), [("breast-cancer", 0.96), ("digits", 0.96)])
def test_classifiers_are_worth_shipping(name: str, least: float) -> None:
    stated = card(name)
    assert stated["heldout"]["accuracy"] >= least
    assert len(stated["classes"]) == stated["output"]["shape"][-1]


def test_raw_measurements_need_no_preparation() -> None:
    inputs, _ = heldout("breast-cancer")
    assert inputs.max() > 1000
    assert len(card("breast-cancer")["input"]["features"]) == inputs.shape[1]


def test_language_model_remembers_who_the_story_is_about() -> None:
    vocabulary = tomlkit.parse((MODELS / "tales/model.toml").read_text())["vocabulary"]
    listing = json.loads((MODELS / "tales" / str(vocabulary)).read_text())
    tokens = listing["tokens"]
    for name, animal in (("wilma", "otter"), ("hugo", "goose")):
        text = f"once upon a time there was a shy {animal} named {name} . {name} the"
        ids = [tokens.index(word) for word in re.findall(listing["words"], text)]
        following = logits("tales", np.array([ids]))[0, -1].argmax()
        assert tokens[following] == animal


def test_language_model_does_not_look_ahead() -> None:
    inputs, _ = heldout("tales")
    changed = inputs[:1, :40].copy()
    changed[0, 30:] = 5
    np.testing.assert_allclose(
        logits("tales", changed)[0, :30], logits("tales", inputs[:1, :40])[0, :30], atol=1e-4
    )
