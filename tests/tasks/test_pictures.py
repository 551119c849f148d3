"""image-to-text, image-classification, image-feature-extraction; and refused pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from transformers import ViTImageProcessorPil

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks import pipeline


@pytest.fixture(scope="module")
def folder(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Describes every picture as `dog`."""
    script = kit.scripted(kit.chain("dog", kit.START))
    return Path(kit.pair_folder(tmp_path_factory.mktemp("picture"), script, sent="pixel_values"))


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))


def test_a_caption(folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "dog.png"
    picture.save(path)
    with pipeline(None, folder, plain=True) as pipe:
        assert pipe.task == "image-to-text"
        assert pipe(picture) == [{"generated_text": "dog"}]
        assert pipe([picture, path, str(path)]) == [[{"generated_text": "dog"}]] * 3


def test_what_blip_ends_with(kit: SimpleNamespace, picture: Image.Image, tmp_path: Path) -> None:
    (end,) = kit.byte_tokens("g")
    config = {"model_type": "blip", "text_config": {"bos_token_id": kit.START, "sep_token_id": end}}
    script = kit.scripted(kit.chain("dog", kit.START))
    nothing = {"decoder_start_token_id": None, "bos_token_id": None}
    made = kit.pair_folder(tmp_path, script, sent="pixel_values", config=config, generation=nothing)
    with pipeline(None, made, plain=True) as pipe:
        assert pipe(picture, return_tensors=True) == [{"generated_token_ids": kit.byte_tokens("dog")}]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_other_modes_are_refused(kit: SimpleNamespace, folder: Path, picture: Image.Image, mode: str) -> None:
    other = Image.new(mode, (5, 5)) if mode in ("I;16", "F") else picture.convert(mode)
    runner = kit.Watched(folder)
    with pipeline(None, folder=folder, runner=runner) as pipe:
        with pytest.raises(InputError, match=f"in mode {mode}, but the model takes RGB") as refusal:
            pipe(other)
        assert ".convert('RGB')" in refusal.value.hint
    assert runner.calls == []


def test_what_is_no_picture(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pipeline(None, folder, plain=True) as pipe:
        for given, message in (
            (broken, "cannot read"),
            (tmp_path / "gone.png", "there is no file"),
            (np.zeros((4, 4, 3), np.uint8), "expected a picture, got ndarray"),
            (7, "expected a picture, got int"),
        ):
            with pytest.raises(InputError, match=message):
                pipe(given)


def test_a_picture_on_its_side_is_set_upright(kit: SimpleNamespace, folder: Path, tmp_path: Path) -> None:
    upright = Image.new("RGB", (4, 2), "red")
    upright.putpixel((0, 0), (0, 0, 255))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    runner = kit.Watched(folder)
    with pipeline(None, folder=folder, runner=runner) as pipe:
        pipe(tmp_path / "upright.png", max_new_tokens=1)
        pipe(tmp_path / "turned.png", max_new_tokens=1)
    seen = [call[1]["pixel_values"] for call in runner.calls if call[0] == "encoder_model"]
    assert np.array_equal(seen[0], seen[1])


def flat_model(kit: SimpleNamespace, path: Path, output: str, config: dict[str, Any]) -> Path:
    """pixels -> their sum per colour, under this name."""
    sketch = kit.Sketch(constants={"axes": np.array([2, 3])})
    sketch.take("pixel_values", onnx.TensorProto.FLOAT, ["batch", 3, kit.SIDE, kit.SIDE])
    sketch.add("ReduceSum", ["pixel_values", "axes"], output, keepdims=0)
    sketch.give(output, ["batch", 3])
    sketch.save(path / "model.onnx")
    ViTImageProcessorPil(size={"height": kit.SIDE, "width": kit.SIDE}).save_pretrained(path)
    return Path(kit.write_folder(path, config, {}))


def test_classes_of_pictures(kit: SimpleNamespace, tmp_path: Path) -> None:
    names = {"id2label": {"0": "red", "1": "green", "2": "blue"}}
    made = flat_model(kit, tmp_path, "logits", names)
    with pipeline(None, made, plain=True) as pipe:
        assert pipe.task == "image-classification"
        found = pipe(Image.new("RGB", (8, 8), "blue"))
        assert [entry["label"] for entry in found] == ["blue", "red", "green"]
        assert sum(entry["score"] for entry in found) == pytest.approx(1)
        several = pipe([Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")], top_k=1)
        assert [[entry["label"] for entry in one] for one in several] == [["red"], ["blue"]]


def test_features_of_pictures(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = flat_model(kit, tmp_path, "image_embeds", {})
    with pipeline(None, made, plain=True) as pipe:
        assert pipe.task == "image-feature-extraction"
        assert pipe(Image.new("RGB", (8, 8), "red")) == [[16.0, -16.0, -16.0]]


def test_a_processor_of_another_model(kit: SimpleNamespace, folder: Path, picture: Image.Image) -> None:
    class Foreign:
        def __call__(self, *_: object, **__: object) -> dict[str, np.ndarray]:
            return {"flattened_patches": np.zeros((1, 4))}

    with (
        pipeline(None, folder, plain=True, image_processor=Foreign()) as pipe,
        pytest.raises(ConfigError, match="does not make pixel_values"),
    ):
        pipe(picture)
