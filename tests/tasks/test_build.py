"""Which task a model is for, where it runs, and the errors when something is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.errors import ConfigError, ModelError
from onnxpuma.tasks import pipeline, tasks_of
from onnxpuma.tasks.build import TASKS, task_named
from onnxpuma.tasks.folder import ModelFolder


@pytest.fixture(scope="module")
def causal(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(kit.causal_folder(tmp_path_factory.mktemp("causal"), kit.drawn()))


@pytest.mark.parametrize(
    ("sent", "tasks"),
    [
        ("input_ids", ("text2text-generation", "summarization", "translation")),
        ("input_features", ("automatic-speech-recognition",)),
        ("input_values", ("automatic-speech-recognition",)),
        ("pixel_values", ("image-to-text",)),
    ],
)
def test_what_an_encoder_takes_says_what_it_is_for(
    kit: SimpleNamespace, tmp_path: Path, sent: str, tasks: tuple[str, ...]
) -> None:
    runner = kit.Watched(kit.pair_folder(tmp_path, kit.drawn(), sent=sent))
    assert tasks_of(runner, ModelFolder(tmp_path)) == tasks


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertForTokenClassification"])
def test_models_that_write_nothing_are_not_made_to(
    kit: SimpleNamespace, tmp_path: Path, architecture: str
) -> None:
    kit.causal_folder(tmp_path, kit.drawn(), False, config={"architectures": [architecture]})
    with pytest.raises(ConfigError, match="no task fits this model"):
        pipeline(None, tmp_path, plain=True)


def test_a_task_that_the_model_is_not_made_for(kit: SimpleNamespace, causal: Path) -> None:
    runner = kit.Watched(causal)
    with pytest.raises(ConfigError, match="not made for summarization") as refusal:
        pipeline("summarization", folder=causal, runner=runner)
    assert refusal.value.hint == "it is made for text-generation"
    assert runner.closed


def test_names_of_tasks() -> None:
    assert task_named("text-generation-with-past") == "text-generation"
    assert task_named("sentiment-analysis") == "text-classification"
    with pytest.raises(ConfigError, match="no task 'summarisation'") as refusal:
        task_named("summarisation")
    assert refusal.value.hint.startswith("did you mean 'summarization'?")
    assert all(name in refusal.value.hint for name in TASKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "where are the configuration and the tokenizer"),
        ({"folder": "FOLDER"}, "neither a model nor a cluster"),
        ({"model": "FOLDER", "cluster": "cluster.toml"}, "its servers have the model already"),
        (
            {"folder": "FOLDER", "cluster": "cluster.toml", "plain": True},
            "its servers have the model already",
        ),
        ({"model": "FOLDER/gone"}, r"no config\.json"),
    ],
)
def test_what_is_missing_or_contradicts_itself(causal: Path, arguments: dict[str, Any], message: str) -> None:
    given = {n: v.replace("FOLDER", str(causal)) if isinstance(v, str) else v for n, v in arguments.items()}
    with pytest.raises(ConfigError, match=message):
        pipeline(None, **given)


def test_the_folder_of_a_shared_model_has_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "skeleton.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match="a shared model, which has no tokenizer"):
        pipeline(None, tmp_path)


def test_a_folder_without_an_onnx_file(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.write_folder(tmp_path, {}, {})
    with pytest.raises(ModelError, match="no ONNX file"):
        pipeline(None, tmp_path, plain=True)


def test_a_folder_without_a_tokenizer(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.causal_folder(tmp_path, kit.drawn())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pipeline(None, tmp_path, plain=True) as pipe, pytest.raises(ConfigError, match="no tokenizer in"):
        pipe("a")


def test_a_tokenizer_from_another_folder(kit: SimpleNamespace, causal: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    kit.causal_folder(bare, kit.drawn())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    with (
        pipeline(None, bare, plain=True, tokenizer=causal) as one,
        pipeline(None, causal, plain=True) as other,
    ):
        assert one("ab", max_new_tokens=4) == other("ab", max_new_tokens=4)


def test_a_damaged_configuration(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.causal_folder(tmp_path, kit.drawn())
    for text in ("{", "[]", "\udcff"):
        (tmp_path / "generation_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ConfigError, match=r"generation_config\.json"):
            pipeline(None, tmp_path, plain=True)


def test_without_transformers_the_line_that_installs_it(
    causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pipeline(None, causal, plain=True) as pipe, pytest.raises(ConfigError) as refusal:
        pipe("a")
    assert "transformers, which is not installed" in refusal.value.message
    assert "pip install 'onnxpuma[tasks]'" in refusal.value.hint


def test_settings_come_from_the_parts_of_a_configuration(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.write_folder(tmp_path, {}, {})
    config = {
        "encoder": {"max_position_embeddings": 30},
        "decoder": {"max_position_embeddings": 20, "bos_token_id": 5},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = ModelFolder(tmp_path)
    assert folder.positions == 20
    assert folder.source_positions == 30
    assert folder.value("bos_token_id") == 5
    assert folder.value("decoder_start_token_id") is None
