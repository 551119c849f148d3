"""text-classification and feature-extraction."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.errors import InputError, ModelError
from onnxpuma.tasks import pipeline


def classifier(kit: SimpleNamespace, path: Path, labels: int, config: dict[str, Any]) -> Path:
    """Sums each token's votes for each label; `!` gives three to label one, `?` gives one to label zero."""
    says = np.zeros((kit.VOCABULARY, labels), np.float32)
    says[kit.byte_tokens("!"), labels - 1] = 3.0
    says[kit.byte_tokens("?"), 0] += 1.0
    sketch = kit.Sketch(constants={"says": says, "one": np.array([1])})
    sketch.take("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    sketch.take("token_type_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    sketch.add("Gather", ["says", "input_ids"], "rows")
    sketch.add("ReduceSum", ["rows", "one"], "logits", keepdims=0)
    sketch.give("logits", ["batch", labels])
    sketch.save(path / "model.onnx")
    return Path(kit.write_folder(path, {"max_position_embeddings": 8, **config}, {}))


@pytest.fixture(scope="module")
def mood(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {"id2label": {"0": "doubt", "1": "joy"}}
    return classifier(kit, tmp_path_factory.mktemp("mood"), 2, names)


def test_labels_in_the_form_of_transformers(mood: Path) -> None:
    with pipeline(None, mood, plain=True) as pipe:
        assert pipe.task == "text-classification"
        (best,) = pipe("a!")
        assert best["label"] == "joy"
        assert best["score"] == pytest.approx(1 / (1 + np.exp(-3)))
        assert [entry["label"] for entry in pipe(["a!", "a?"])] == ["joy", "doubt"]
        assert [entry["label"] for entry in pipe("a?", top_k=None)] == ["doubt", "joy"]
        assert [len(entry) for entry in pipe(["a", "b"], top_k=2)] == [2, 2]


def test_pairs(mood: Path) -> None:
    with pipeline("sentiment-analysis", mood, plain=True) as pipe:
        assert pipe({"text": "a?", "text_pair": "b!"})[0]["label"] == "joy"
        with pytest.raises(InputError, match="expected a text"):
            pipe({"text_pair": "b"})


@pytest.mark.parametrize(
    ("labels", "config", "options", "score"),
    [
        (1, {}, {}, 1 / (1 + np.exp(-3))),
        (2, {"problem_type": "multi_label_classification"}, {}, 1 / (1 + np.exp(-3))),
        (1, {"problem_type": "regression"}, {}, 3.0),
        (2, {}, {"function_to_apply": "none"}, 3.0),
    ],
)
def test_the_scores_of_other_problems(
    kit: SimpleNamespace,
    tmp_path: Path,
    labels: int,
    config: dict[str, Any],
    options: dict[str, Any],
    score: float,
) -> None:
    with pipeline(None, classifier(kit, tmp_path, labels, config), plain=True) as pipe:
        assert pipe("!", **options)[0] == {"label": f"LABEL_{labels - 1}", "score": pytest.approx(score)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"function_to_apply": "relu"}, "function_to_apply is 'relu'"),
        ({"max_new_tokens": 3}, "no option 'max_new_tokens'"),
    ],
)
def test_options_that_make_no_sense(mood: Path, options: dict[str, Any], message: str) -> None:
    with pipeline(None, mood, plain=True) as pipe, pytest.raises(InputError, match=message):
        pipe("a", **options)


def test_a_text_that_is_too_long(mood: Path) -> None:
    with pipeline(None, mood, plain=True) as pipe:
        with pytest.raises(InputError, match="9 tokens, the model has 8 positions"):
            pipe("a" * 8 + "!")
        assert pipe("?" + "a" * 7 + "!", truncation=True)[0]["label"] == "doubt"


def test_positions_that_begin_behind_the_padding(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = classifier(kit, tmp_path, 2, {"model_type": "roberta", "pad_token_id": 1})
    with (
        pipeline(None, made, plain=True) as pipe,
        pytest.raises(InputError, match="the model has 6 positions"),
    ):
        pipe("a" * 7)


def test_features(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.encoder_graph("input_ids", 6).save(tmp_path / "model.onnx")
    made = kit.write_folder(tmp_path, {"max_position_embeddings": 8}, {})
    with pipeline(None, made, plain=True) as pipe:
        assert pipe.task == "feature-extraction"
        rows = pipe("abc")
        assert np.array(rows).shape == (1, 3, 6)
        array = pipe("abc", return_tensors=True, output="last_hidden_state")
        assert array.tolist() == rows
        assert pipe(["abc", "d"])[1] == pipe("d")
        with pytest.raises(ModelError, match="no output 'pooled'"):
            pipe("abc", output="pooled")
