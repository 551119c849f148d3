"""Models with random weights get a tokenizer, or a feature extractor or image processor, for trying out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("torch")

import export  # noqa: E402
from exporting import architectures, stand_ins  # noqa: E402

TEXT = "Höchstens 7 Wörter,\n\tnicht mehr. 水"
WORDLESS = ("vit-base-patch16-224",)


@pytest.mark.parametrize("name", architectures.CATALOGUE["named"])
def test_every_text_can_be_written_and_read_back(tmp_path: Path, name: str) -> None:
    config = architectures.random_config(name, tiny=True)
    made = stand_ins.tokenizer(config)
    if name in WORDLESS:
        assert made is None
        return
    assert made is not None
    made.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = read(TEXT)["input_ids"]
    assert read.decode(ids, skip_special_tokens=True) == TEXT
    assert len(ids) >= len(TEXT.encode())
    words = getattr(config, "text_config", None) or getattr(config, "decoder", None) or config
    assert max(read.get_vocab().values()) < words.vocab_size
    for mark in ("bos", "eos", "pad"):
        wanted = getattr(config, f"{mark}_token_id", None)
        if wanted is not None:
            assert getattr(read, f"{mark}_token_id") == wanted


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("bert-base-uncased", 1, 2), ("roberta-base", 0, 2), ("bart-base", 0, 2), ("t5-small", None, 1)],
)
def test_texts_are_framed_as_the_architecture_does(name: str, first: int | None, last: int) -> None:
    made = stand_ins.tokenizer(architectures.random_config(name, tiny=True))
    ids = made("ab")["input_ids"]
    assert ids[-1] == last
    assert len(ids) == (3 if first is None else 4)
    assert first is None or ids[0] == first
    pair = made("a", "b")
    assert pair["input_ids"].count(last) == 2
    if name.startswith("bert"):
        assert pair["token_type_ids"] == [0, 0, 0, 1, 1]


def test_what_a_random_model_writes_can_be_shown() -> None:
    config = architectures.random_config("gpt2", tiny=True)
    made = stand_ins.tokenizer(config)
    plain = list(range(stand_ins.FIRST_BYTE + 256, config.vocab_size - 1))
    shown = [made.decode([token]) for token in plain]
    assert all(shown)
    assert len(set(shown)) == len(plain)


@pytest.mark.parametrize("tiny", [True, False])
def test_sounds_come_out_as_long_as_whisper_hears(tiny: bool) -> None:
    config = architectures.random_config("whisper-tiny", tiny=tiny)
    made = stand_ins.preparer(config)
    sound = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    features = made(sound, sampling_rate=16000, return_tensors="np").input_features
    assert features.shape == (1, config.num_mel_bins, 2 * config.max_source_positions)
    assert made.n_samples == (16000 if tiny else 480000)


@pytest.mark.parametrize(
    "name",
    ["vit-base-patch16-224", "clip-vit-base-patch32", "trocr-base-printed", "blip-image-captioning-base"],
)
def test_pictures_come_out_as_large_as_the_model_sees(name: str) -> None:
    image = pytest.importorskip("PIL.Image")
    made = stand_ins.preparer(architectures.random_config(name, tiny=True))
    pixels = made(image.new("RGB", (50, 40), "red"), return_tensors="np").pixel_values
    assert np.asarray(pixels).shape == (1, 3, 32, 32)


def test_export_writes_them_beside_the_graph(tmp_path: Path) -> None:
    options = ["--model", "bert-base-uncased", "--task", "fill-mask", "--exporter", "torchscript"]
    assert export.main([*options, "--tiny", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"tokenizer.json", "config.json"}
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).mask_token_id == 3
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "tokenizer_config.json").read_text()))


def test_tiny_model_of_a_folder_does_not_take_its_larger_tokenizer(tmp_path: Path) -> None:
    source = tmp_path / "source"
    architectures.random_config("gpt2", tiny=False).save_pretrained(source)
    (source / "vocab.json").write_text("{}")
    (source / "merges.txt").write_text("")
    options = ["--model", str(source), "--task", "text-generation", "--exporter", "torchscript", "--tiny"]
    assert export.main([*options, "--out", str(tmp_path / "out")]) == 0
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert max(read.get_vocab().values()) == 511


def test_what_a_checkpoint_lacks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = architectures.random_config("gpt2", tiny=True)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "bare")
    options = ["--model", str(tmp_path / "bare"), "--task", "text-generation", "--exporter", "torchscript"]
    assert export.main([*options, "--out", str(tmp_path / "out")]) == 0
    assert "without  tokenizer" in capsys.readouterr().out
    assert not (tmp_path / "out/tokenizer.json").exists()
