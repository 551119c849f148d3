"""Encoder-decoders from text to text: first tokens, last tokens, and the keys of the results."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks import pipeline


@pytest.fixture(scope="module")
def folder(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers `ok` to every input."""
    return Path(kit.pair_folder(tmp_path_factory.mktemp("pair"), kit.scripted(kit.chain("ok", kit.START))))


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("text2text-generation", "generated"),
        ("summarization", "summary"),
        ("translation", "translation"),
        ("translation_en_to_de", "translation"),
    ],
)
def test_results_bear_the_name_of_the_task(folder: Path, task: str, key: str) -> None:
    with pipeline(task, folder, plain=True) as pipe:
        assert pipe("hello") == [{f"{key}_text": "ok"}]
        assert pipe(["hello", "you"]) == [{f"{key}_text": "ok"}] * 2
        assert list(pipe.stream("hello")) == ["o", "k"]


def test_a_first_token_is_forced(kit: SimpleNamespace, tmp_path: Path) -> None:
    first = kit.byte_tokens("o")
    runner = kit.Watched(
        kit.pair_folder(
            tmp_path, kit.scripted(kit.chain("ok", kit.START)), generation={"forced_bos_token_id": first[0]}
        )
    )
    with pipeline("summarization", folder=tmp_path, runner=runner) as pipe:
        assert pipe("hello") == [{"summary_text": "k"}]
    assert runner.calls[1][1]["input_ids"].tolist() == [[kit.START, *first]]


@pytest.mark.parametrize("fixed", [False, True])
def test_a_last_token_is_forced(kit: SimpleNamespace, tmp_path: Path, fixed: bool) -> None:
    script = kit.scripted(kit.chain("abcd", kit.START))
    runner = kit.Watched(kit.pair_folder(tmp_path, script, generation={"forced_eos_token_id": kit.END}))
    with pipeline("summarization", folder=tmp_path, runner=runner) as pipe:
        result = pipe("hello", max_new_tokens=3, fixed_length=fixed, return_tensors=True)
    assert result == [{"summary_token_ids": [*kit.byte_tokens("ab"), kit.END]}]
    assert len(runner.calls) == 1 + (3 if fixed else 2)


def test_the_length_of_the_configuration_counts_the_prompt(kit: SimpleNamespace, tmp_path: Path) -> None:
    script = kit.scripted(kit.chain("abcd", kit.START))
    made = kit.pair_folder(tmp_path, script, generation={"max_length": 4, "num_beams": 4})
    with pipeline("summarization", made, plain=True) as pipe:
        assert pipe("hello") == [{"summary_text": "abc"}]


def test_bad_words_of_one_token_do_not_come_out(kit: SimpleNamespace, tmp_path: Path) -> None:
    follow = {kit.START: [*kit.byte_tokens("a"), *kit.byte_tokens("b")], kit.byte_tokens("b")[0]: [kit.END]}
    words = [kit.byte_tokens("a"), kit.byte_tokens("xy")]
    made = kit.pair_folder(tmp_path, kit.scripted(follow), generation={"bad_words_ids": words})
    with pipeline("translation", made, plain=True) as pipe:
        assert pipe("hello") == [{"translation_text": "b"}]


def test_a_text_too_long_for_the_encoder_is_refused_or_cut(kit: SimpleNamespace, folder: Path) -> None:
    runner = kit.Watched(folder)
    with pipeline("summarization", folder=folder, runner=runner) as pipe:
        with pytest.raises(InputError, match="65 tokens, the model has 64 positions"):
            pipe("x" * 65)
        assert runner.calls == []
        assert pipe("x" * 65, truncation=True) == [{"summary_text": "ok"}]
        assert runner.calls[0][1]["input_ids"].shape == (1, 64)


def test_distances_without_an_end_know_no_longest_text(kit: SimpleNamespace, tmp_path: Path) -> None:
    config: dict[str, Any] = {"model_type": "t5", "n_positions": 4, "max_position_embeddings": None}
    made = kit.pair_folder(tmp_path, kit.scripted(kit.chain("ok", kit.START)), config=config)
    with pipeline("translation", made, plain=True) as pipe:
        assert pipe("x" * 100) == [{"translation_text": "ok"}]


def test_a_folder_that_does_not_say_the_first_token(kit: SimpleNamespace, tmp_path: Path) -> None:
    script = kit.scripted(kit.chain("ok", kit.START))
    nothing = {"decoder_start_token_id": None, "bos_token_id": None}
    made = kit.pair_folder(tmp_path, script, generation=nothing)
    with pipeline("translation", made, plain=True) as pipe, pytest.raises(ConfigError, match="decoder_start"):
        pipe("hello")
