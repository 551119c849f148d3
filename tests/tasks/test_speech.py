"""automatic-speech-recognition: Whisper's instructions, long recordings, and refused recordings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from onnxpuma.errors import InputError
from onnxpuma.tasks import pipeline

SAID = " ok."
LANGUAGES = {"<|en|>": 250, "<|de|>": 251}
TRANSCRIBE, TRANSLATE, SILENT = 252, 253, 254
MULTILINGUAL = {
    "lang_to_id": LANGUAGES,
    "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE},
    "no_timestamps_token_id": SILENT,
}


def built(kit: SimpleNamespace, path: Path, generation: dict[str, Any], before: int) -> Path:
    """A model that writes SAID after the token `before`, and detects German after the start."""
    follow = kit.chain(SAID, before)
    if before != kit.START:
        follow[kit.START] = [7, LANGUAGES["<|de|>"], LANGUAGES["<|en|>"]]
    made = kit.pair_folder(path, kit.scripted(follow), sent="input_features", generation=generation)
    return Path(made)


@pytest.fixture(scope="module")
def simple(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(kit, tmp_path_factory.mktemp("simple"), {}, kit.START)


@pytest.fixture(scope="module")
def multilingual(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(kit, tmp_path_factory.mktemp("multilingual"), MULTILINGUAL, SILENT)


@pytest.fixture
def sound(kit: SimpleNamespace) -> dict[str, Any]:
    """Half a second of sound."""
    noise = np.random.default_rng(0).normal(0, 0.1, kit.RATE // 2).astype(np.float32)
    return {"array": noise, "sampling_rate": kit.RATE}


def test_results_have_the_form_of_transformers(simple: Path, sound: dict[str, Any]) -> None:
    with pipeline(None, simple, plain=True) as pipe:
        assert pipe.task == "automatic-speech-recognition"
        assert pipe(sound) == {"text": "ok."}
        assert pipe([sound, sound]) == [{"text": "ok."}] * 2


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_files(simple: Path, sound: dict[str, Any], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"speech{suffix}"
    soundfile.write(path, sound["array"], sound["sampling_rate"])
    with pipeline(None, simple, plain=True) as pipe:
        assert pipe(path) == {"text": "ok."}
        assert pipe(str(path)) == {"text": "ok."}


def test_what_is_long_is_written_down_in_pieces(
    kit: SimpleNamespace, simple: Path, sound: dict[str, Any]
) -> None:
    runner = kit.Watched(simple)
    long = {**sound, "array": np.tile(sound["array"], 5)}  # two and a half seconds: three pieces
    with pipeline(None, folder=simple, runner=runner) as pipe:
        assert pipe(long) == {"text": "ok. ok. ok."}
        assert "".join(pipe.stream(long)) == "ok. ok. ok."
    heard = [call[1]["input_features"] for call in runner.calls if call[0] == "encoder_model"][:3]
    assert [features.shape for features in heard] == [heard[0].shape] * 3
    assert runner.held == []


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        ({"language": "en"}, [LANGUAGES["<|en|>"], TRANSCRIBE, SILENT]),
        ({"language": "German"}, [LANGUAGES["<|de|>"], TRANSCRIBE, SILENT]),
        ({"language": "de", "task": "translate"}, [LANGUAGES["<|de|>"], TRANSLATE, SILENT]),
        ({"generate_kwargs": {"language": "en"}}, [LANGUAGES["<|en|>"], TRANSCRIBE, SILENT]),
    ],
)
def test_language_and_task_stand_before_the_text(
    kit: SimpleNamespace,
    multilingual: Path,
    sound: dict[str, Any],
    options: dict[str, Any],
    prompt: list[int],
) -> None:
    runner = kit.Watched(multilingual)
    with pipeline(None, folder=multilingual, runner=runner) as pipe:
        assert pipe(sound, **options) == {"text": "ok."}
    assert runner.calls[1][1]["input_ids"].tolist() == [[kit.START, *prompt]]


def test_a_language_that_is_not_told_is_heard_once(
    kit: SimpleNamespace, multilingual: Path, sound: dict[str, Any]
) -> None:
    runner = kit.Watched(multilingual)
    long = {**sound, "array": np.tile(sound["array"], 3)}
    with pipeline(None, folder=multilingual, runner=runner) as pipe:
        assert pipe(long) == {"text": "ok. ok."}
    asked = [call for call in runner.calls if call[0] == "decoder_model"]
    prompts = [call[1]["input_ids"].tolist()[0] for call in asked]
    said = [kit.START, LANGUAGES["<|de|>"], TRANSCRIBE, SILENT]
    assert prompts == [[kit.START], said, said]
    assert asked[0][2:] == (["next_token"], [])
    languages = set(range(kit.VOCABULARY)) - set(asked[0][1]["suppressed_ids"].tolist())
    assert languages == set(LANGUAGES.values())
    assert runner.held == []


def test_forced_ids_of_models_for_english(
    kit: SimpleNamespace, tmp_path: Path, sound: dict[str, Any]
) -> None:
    made = built(
        kit, tmp_path, {"forced_decoder_ids": [[1, SILENT]], "no_timestamps_token_id": SILENT}, SILENT
    )
    runner = kit.Watched(made)
    with pipeline(None, folder=made, runner=runner) as pipe:
        assert pipe(sound) == {"text": "ok."}
        with pytest.raises(InputError, match="only one language"):
            pipe(sound, language="en")
        with pytest.raises(InputError, match="no task 'translate'"):
            pipe(sound, task="translate")
    assert runner.calls[1][1]["input_ids"].tolist() == [[kit.START, SILENT]]


def test_unknown_languages_and_tasks(multilingual: Path, sound: dict[str, Any]) -> None:
    with pipeline(None, multilingual, plain=True) as pipe:
        with pytest.raises(InputError, match="no language 'klingon'") as refusal:
            pipe(sound, language="klingon")
        assert refusal.value.hint == "it knows de, en"
        with pytest.raises(InputError, match="no task 'sing'"):
            pipe(sound, task="sing", language="en")


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"sampling_rate": 44100}, "44100 samples a second, the model takes 16000", "-ar 16000"),
        ({"array": np.zeros((800, 2), np.float32)}, "several channels", "array.mean"),
        ({"array": np.zeros(800, np.int16)}, "of type int16", "32768"),
        ({"array": np.zeros(0, np.float32)}, "is empty", "second"),
        ({"array": np.array([0.0, np.nan])}, "NaN or infinity", "replace"),
        ({"array": np.array([0.0, np.inf])}, "NaN or infinity", "replace"),
    ],
)
def test_recordings_that_do_not_fit(
    kit: SimpleNamespace, simple: Path, sound: dict[str, Any], change: dict[str, Any], message: str, hint: str
) -> None:
    runner = kit.Watched(simple)
    with pipeline(None, folder=simple, runner=runner) as pipe:
        with pytest.raises(InputError, match=message) as refusal:
            pipe({**sound, **change})
        assert hint in refusal.value.hint
    assert runner.calls == []


def test_files_that_do_not_fit(kit: SimpleNamespace, simple: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.wav"
    soundfile.write(both, np.zeros((800, 2)), kit.RATE)
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no sound at all")
    with pipeline(None, simple, plain=True) as pipe:
        for given, message in (
            (both, "several channels"),
            (noise, "cannot read"),
            (tmp_path / "gone.wav", "there is no file"),
            (np.zeros(800, np.float32), "expected a recording, got ndarray"),
            ({"array": np.zeros(800, np.float32)}, "expected a recording, got dict"),
        ):
            with pytest.raises(InputError, match=message):
                pipe(given)
