"""The requests for a text, the values kept between them, and the release of all of them in the end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError, ModelError
from onnxpuma.tasks import pipeline
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.port import Port, Signature

TEXT = "ab"


def ids(pipe: Any, text: str = TEXT, **options: Any) -> list[int]:
    result = pipe(text, return_tensors=True, **options)[0]
    return list(next(iter(result.values())))


@pytest.mark.parametrize("seed", range(3))
def test_a_cache_changes_nothing_of_a_text(kit: SimpleNamespace, tmp_path: Path, seed: int) -> None:
    weights = kit.drawn(seed)
    texts = []
    for cached in (True, False):
        folder = kit.causal_folder(tmp_path / str(cached), weights, cached, {"eos_token_id": None})
        with pipeline("text-generation", folder, plain=True) as pipe:
            texts.append(ids(pipe, max_new_tokens=12))
    assert texts[0] == texts[1]
    assert len(texts[0]) == 12


@pytest.mark.parametrize("seed", range(3))
def test_a_cache_changes_nothing_of_an_encoder_decoder(
    kit: SimpleNamespace, tmp_path: Path, seed: int
) -> None:
    weights = kit.drawn(seed)
    texts = []
    for cached in (True, False):
        folder = kit.pair_folder(
            tmp_path / str(cached), weights, cached=cached, generation={"eos_token_id": None}
        )
        with pipeline("translation", folder, plain=True) as pipe:
            texts.append(ids(pipe, max_new_tokens=12))
    assert texts[0] == texts[1]


def test_one_past_is_held_and_only_the_next_token_opened(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(kit.causal_folder(tmp_path, kit.drawn(), generation={"eos_token_id": None}))
    with pipeline("text-generation", folder=tmp_path, runner=runner) as pipe:
        pipe(TEXT, max_new_tokens=5)
        assert runner.held == []
    assert runner.closed
    assert runner.most_held == 2  # the new one and the one that it replaces
    assert [outputs for _, _, outputs, _ in runner.calls] == [["next_token"]] * 5
    assert [keep for _, _, _, keep in runner.calls] == [["present.0.key"]] * 5
    shapes = [feed["past_key_values.0.key"].shape[2] for _, feed, _, _ in runner.calls]
    assert shapes == [0, 2, 3, 4, 5]
    assert [feed["input_ids"].shape for _, feed, _, _ in runner.calls] == [(1, 2), *[(1, 1)] * 4]
    assert [feed["attention_mask"].shape for _, feed, _, _ in runner.calls] == [(1, n) for n in range(2, 7)]


def test_the_encoders_result_stays_where_it_is_until_the_decoder_has_read_it(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    runner = kit.Watched(kit.pair_folder(tmp_path, kit.drawn(), generation={"eos_token_id": None}))
    with pipeline("translation", folder=tmp_path, runner=runner) as pipe:
        pipe(TEXT, max_new_tokens=3)
    assert [call[0] for call in runner.calls] == [
        "encoder_model",
        "decoder_model",
        *["decoder_with_past_model"] * 2,
    ]
    assert runner.calls[0][2:] == ([], ["last_hidden_state"])
    assert runner.calls[1][3] == ["present.0.decoder.key", "present.0.encoder.key"]
    assert runner.calls[2][3] == ["present.0.decoder.key"]
    first, second = runner.calls[2][1], runner.calls[3][1]
    assert first["past_key_values.0.encoder.key"] is second["past_key_values.0.encoder.key"]
    assert runner.held == []


def test_without_a_second_decoder_the_encoders_result_is_held_to_the_end(
    kit: SimpleNamespace, tmp_path: Path
) -> None:
    generation = {"eos_token_id": None}
    runner = kit.Watched(kit.pair_folder(tmp_path, kit.drawn(), cached=False, generation=generation))
    with pipeline("translation", folder=tmp_path, runner=runner) as pipe:
        pipe(TEXT, max_new_tokens=3)
    assert [call[0] for call in runner.calls] == ["encoder_model", *["decoder_model"] * 3]
    assert [call[1]["input_ids"].shape[1] for call in runner.calls] == [2, 1, 2, 3]
    assert runner.most_held == 1
    assert runner.held == []


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_nothing_is_left_behind_by_an_interrupt(kit: SimpleNamespace, tmp_path: Path, fail_at: int) -> None:
    runner = kit.Watched(kit.pair_folder(tmp_path, kit.drawn(), generation={"eos_token_id": None}))
    runner.fail_at = fail_at
    with pipeline("translation", folder=tmp_path, runner=runner) as pipe:
        with pytest.raises(KeyboardInterrupt):
            pipe(TEXT, max_new_tokens=5)
        assert len(runner.calls) == fail_at
        assert runner.held == []


def test_nothing_is_left_behind_by_a_reader_who_stops(kit: SimpleNamespace, tmp_path: Path) -> None:
    script = kit.scripted(kit.chain("cde", kit.byte_tokens("b")[0]))
    runner = kit.Watched(kit.causal_folder(tmp_path, script))
    with pipeline("text-generation", folder=tmp_path, runner=runner) as pipe:
        pieces = pipe.stream(TEXT)
        assert next(pieces) == "c"
        assert len(runner.held) == 1
        pieces.close()
        assert runner.held == []
        assert len(runner.calls) == 1


def test_logits_are_those_of_the_last_position(kit: SimpleNamespace, tmp_path: Path) -> None:
    folder = kit.causal_folder(tmp_path, kit.drawn(), generation={"eos_token_id": None})
    with pipeline("text-generation", folder, plain=True) as pipe:
        result = pipe(TEXT, max_new_tokens=4, logits=True, return_tensors=True)[0]
    assert result["logits"].shape == (4, kit.VOCABULARY)
    assert result["logits"].argmax(axis=1).tolist() == result["generated_token_ids"]


class _Changed:
    """A runner that reports another signature for its one graph."""

    def __init__(self, runner: Any, drop: str = "", add: str = "") -> None:
        self._runner, self.usage = runner, runner.usage
        old = runner.graphs["model"]
        inputs = dict(old.inputs)
        if add:
            inputs[add] = Port(add, np.dtype(np.float32), (1,))
        outputs = tuple(name for name in old.outputs if name != drop)
        self.graphs = {"model": Signature(inputs, outputs)}


def test_hidden_logits_are_refused_before_anything_runs(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(kit.causal_folder(tmp_path, kit.drawn()))
    with pytest.raises(InputError, match="hidden its logits"):
        causal_decoder(_Changed(runner, drop="logits"), logits=True)  # type: ignore[arg-type]
    assert runner.calls == []


def test_a_graph_without_a_next_token_or_present_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(kit.causal_folder(tmp_path, kit.drawn()))
    with pytest.raises(ModelError, match="predicts no next token"):
        causal_decoder(_Changed(runner, drop="next_token"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no output for the input 'past_key_values.0.key'"):
        causal_decoder(_Changed(runner, drop="present.0.key"))  # type: ignore[arg-type]


def test_an_unknown_input_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(kit.causal_folder(tmp_path, kit.drawn()))
    decoder = causal_decoder(_Changed(runner, add="temperature"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="takes 'temperature'"):
        decoder.read([1])
