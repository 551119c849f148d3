"""Exports that run token by token: decoders with a cache, and encoder-decoders in three files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import export  # noqa: E402

DECODERS = ["gpt2", "SmolLM2-135M", "Qwen2-0.5B", "Mistral-7B-v0.3", "gemma-2b"]
ENCODER_DECODERS = {
    "t5-small": "summarization",
    "flan-t5-small": "text2text-generation",
    "bart-base": "text2text-generation-with-past",
    "opus-mt-en-de": "translation",
    "whisper-tiny": "automatic-speech-recognition",
    "vit-gpt2-image-captioning": "image-to-text",
    "trocr-base-printed": "image-to-text",
    "blip-image-captioning-base": "image-to-text",
}
THREE = ("encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")
RNG = np.random.default_rng(5)


class Tiny:
    """A tiny export, run by onnxruntime."""

    def __init__(self, folder: Path, name: str, task: str, exporter: str) -> None:
        options = ["--model", name, "--task", task, "--tiny", "--exporter", exporter]
        assert export.main(["--out", str(folder), *options]) == 0
        self.sessions = {
            path.name: onnxruntime.InferenceSession(path) for path in sorted(folder.glob("*.onnx"))
        }

    def inputs(self, file: str) -> dict[str, list[str | int]]:
        return {value.name: value.shape for value in self.sessions[file].get_inputs()}

    def run(self, file: str, **feed: np.ndarray) -> dict[str, np.ndarray]:
        session = self.sessions[file]
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, feed), strict=True))


def as_past(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Feeds the present of a run as the next one's past."""
    return {
        name.replace("present", "past_key_values"): value
        for name, value in outputs.items()
        if name.startswith("present")
    }


def empty_past(inputs: dict[str, list[str | int]], batch: int) -> dict[str, np.ndarray]:
    return {
        name: np.zeros((batch, shape[1], 0, shape[3]), np.float32)
        for name, shape in inputs.items()
        if name.startswith("past_key_values")
    }


def test_every_decoder_with_its_cache_says_what_it_says_without(tmp_path: Path, decoder: str) -> None:
    agree_with_and_without_cache(tmp_path, decoder, "torchscript")


@pytest.mark.slow
def test_every_decoder_with_its_cache_through_dynamo(tmp_path: Path, decoder: str) -> None:
    agree_with_and_without_cache(tmp_path, decoder, "dynamo")


def test_dynamo_keeps_rotary_attention_whole(tmp_path: Path) -> None:
    Tiny(tmp_path, "SmolLM2-135M", "text-generation-with-past", "dynamo")
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert {"Attention", "RMSNormalization", "RotaryEmbedding"} <= operators
    assert {"Softmax", "Pow", "Neg"}.isdisjoint(operators)


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def agree_with_and_without_cache(folder: Path, name: str, exporter: str) -> None:
    """Compares a prompt of three and two single tokens with all five at once; one row is left-padded."""
    plain = Tiny(folder / "plain", name, "text-generation", exporter)
    cached = Tiny(folder / "cached", name, "text-generation-with-past", exporter)
    inputs = cached.inputs("model.onnx")
    assert list(inputs)[:4] == ["input_ids", "attention_mask", "position_ids", "past_key_values.0.key"]
    assert inputs["attention_mask"] == ["batch", "total"]
    assert inputs["past_key_values.1.value"][::2] == ["batch", "past"]

    ids = RNG.integers(5, 500, (2, 5))
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    expected = plain.run("model.onnx", input_ids=ids, attention_mask=mask)["logits"]
    past, logits = empty_past(inputs, 2), []
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        outputs = cached.run(
            "model.onnx",
            input_ids=ids[:, start:stop],
            attention_mask=mask[:, :stop],
            position_ids=positions[:, start:stop],
            **past,
        )
        past = as_past(outputs)
        logits.append(outputs["logits"])
    got = np.concatenate(logits, axis=1)
    assert past["past_key_values.0.key"].shape[2] == 5
    np.testing.assert_allclose(got[mask == 1], expected[mask == 1], atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "SmolLM2-135M"])
def test_padding_on_either_side_changes_nothing(tmp_path: Path, name: str) -> None:
    model = Tiny(tmp_path, name, "text-generation", "torchscript")
    ids = RNG.integers(5, 500, (1, 4))
    alone = model.run("model.onnx", input_ids=ids, attention_mask=np.ones_like(ids))["logits"]
    for sides in ((2, 0), (0, 2)):
        widths = ((0, 0), sides)
        padded = model.run(
            "model.onnx",
            input_ids=np.pad(ids, widths, constant_values=7),
            attention_mask=np.pad(np.ones_like(ids), widths),
        )["logits"]
        np.testing.assert_allclose(padded[:, sides[0] : sides[0] + 4], alone, atol=1e-5)


@pytest.mark.parametrize(("name", "task"), ENCODER_DECODERS.items())
def test_encoder_decoder_continues_from_its_cache(tmp_path: Path, name: str, task: str) -> None:
    three_files_agree(tmp_path, name, task, "torchscript")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), ENCODER_DECODERS.items())
def test_encoder_decoder_through_dynamo(tmp_path: Path, name: str, task: str) -> None:
    three_files_agree(tmp_path, name, task, "dynamo")


def three_files_agree(folder: Path, name: str, task: str, exporter: str) -> None:
    """Compares four words at once with three and then one from the cache, on the encoder's states."""
    model = Tiny(folder, name, task, exporter)
    assert sorted(model.sessions) == sorted(THREE)
    sent = {
        key: RNG.standard_normal([2, *shape[1:]]).astype(np.float32)
        for key, shape in model.inputs(THREE[0]).items()
        if "sequence" not in shape
    }
    masks = {}
    if not sent:
        mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
        sent = {"input_ids": RNG.integers(5, 500, (2, 6)), "attention_mask": mask}
        masks = {"encoder_attention_mask": mask}
    states = model.run(THREE[0], **sent)["last_hidden_state"]
    ids = RNG.integers(5, 500, (2, 4))
    whole = model.run(THREE[1], input_ids=ids, encoder_hidden_states=states, **masks)
    prompt = model.run(THREE[1], input_ids=ids[:, :3], encoder_hidden_states=states, **masks)
    after = model.run(THREE[2], input_ids=ids[:, 3:], **as_past(prompt), **masks)
    np.testing.assert_allclose(prompt["logits"], whole["logits"][:, :3], atol=1e-5)
    np.testing.assert_allclose(after["logits"], whole["logits"][:, 3:], atol=1e-5)
    assert "present.0.encoder.key" in prompt
    assert {key for key in after if key.startswith("present")} == {
        key for key in prompt if ".decoder." in key
    }
    np.testing.assert_allclose(after["present.1.decoder.value"], whole["present.1.decoder.value"], atol=1e-5)


def test_masked_words_do_not_reach_the_decoder(tmp_path: Path) -> None:
    model = Tiny(tmp_path, "t5-small", "translation", "torchscript")
    ids, mask = RNG.integers(5, 500, (1, 6)), np.array([[1, 1, 1, 1, 0, 0]])
    answers = []
    for filler in (7, 300):
        padded = np.where(mask == 1, ids, filler)
        states = model.run(THREE[0], input_ids=padded, attention_mask=mask)["last_hidden_state"]
        run = model.run(
            THREE[1],
            input_ids=np.array([[0, 9]]),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
        )
        answers.append(run["logits"])
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_generation_config_goes_along(tmp_path: Path) -> None:
    Tiny(tmp_path, "opus-mt-en-de", "translation", "torchscript")
    kept = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert kept.decoder_start_token_id == 511
