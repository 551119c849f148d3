"""The shipped models on shares: predictions on the held-out split equal the plain model's. Of the stories
an eighth is tried by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxpuma.roles.local.memory import MemoryModel

MODELS = Path(__file__).resolve().parents[2] / "models"
TIE = 0.05  # a word whose logit is this close to the best is as good a prediction


def logits(name: str, batch: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(secure, plain) over every `step`-th entry of the held-out split, in batches."""
    file = MODELS / name / "model.onnx"
    inputs = np.load(MODELS / name / "heldout.npz")["inputs"][::step]
    secure = MemoryModel(onnx.load(file))
    plain = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (feed_name,) = (name for name, spec in secure.blueprint.inputs.items() if spec.default is None)
    got, want = [], []
    for start in range(0, len(inputs), batch):
        feed = {feed_name: inputs[start : start + batch]}
        (result,) = secure.run(feed).outputs.values()
        got.append(result)
        want.append(plain.run(None, feed)[0])
    return np.concatenate(got), np.concatenate(want)


@pytest.mark.parametrize(("name", "batch"), [("breast-cancer", 72), ("digits", 90)])
def test_all_predictions_agree(name: str, batch: int) -> None:
    secure, plain = logits(name, batch)
    assert np.array_equal(secure.argmax(axis=-1), plain.argmax(axis=-1))
    assert np.abs(secure - plain).max() < 0.01


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_next_words_agree(step: int) -> None:
    """The stories contain random words, where the plain model itself is undecided between two."""
    secure, plain = logits("tales", 20, step)
    best = plain.argmax(axis=-1)
    chosen = secure.argmax(axis=-1)
    gap = plain.max(axis=-1) - np.take_along_axis(plain, chosen[..., None], axis=-1)[..., 0]
    assert gap.max() < TIE
    assert np.mean(chosen == best) > 0.999
    assert np.abs(secure - plain).max() < 0.05


def test_the_next_word_alone() -> None:
    """The generated word is the plain model's, unless that is undecided between two."""
    model = MemoryModel(onnx.load(MODELS / "tales" / "model.onnx"))
    texts = np.load(MODELS / "tales" / "heldout.npz")["inputs"][:8]
    plain = onnxruntime.InferenceSession(MODELS / "tales" / "model.onnx").run(None, {"input_ids": texts})[0]
    words = model.run({"input_ids": texts}, ["next_token"]).outputs["next_token"]
    last = plain[:, -1]
    assert np.all(last.max(axis=-1) - np.take_along_axis(last, words, axis=-1)[:, 0] < TIE)
