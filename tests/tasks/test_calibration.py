"""Calibration with a task's inputs: the ranges equal those from the same inputs as arrays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from PIL import Image
from transformers import ViTImageProcessorPil, Wav2Vec2FeatureExtractor

from onnxpuma import InferenceSession
from onnxpuma.commands.samples import read_samples
from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.tasks import calibration, pipeline


def squashed(kit: SimpleNamespace, path: Path, output: str = "logits") -> Path:
    """Sums a row for each token; calibration measures the argument of the Tanh that follows."""
    rng = np.random.default_rng(0)
    sketch = kit.Sketch(
        constants={"says": rng.normal(0, 9, (kit.VOCABULARY, 5)).astype(np.float32), "one": np.array([1])}
    )
    sketch.take("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    sketch.add("Gather", ["says", "input_ids"], "rows")
    sketch.add("ReduceSum", ["rows", "one"], "sums", keepdims=0)
    sketch.add("Tanh", ["sums"], output)
    sketch.give(output, ["batch", 5])
    sketch.save(path / "model.onnx")
    return Path(kit.write_folder(path, {"max_position_embeddings": 8}, {}))


@pytest.fixture(scope="module")
def mood(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squashed(kit, tmp_path_factory.mktemp("mood"))


def ranges(model: Path, out: Path, samples: Any) -> Any:
    return share_model(model, out, samples=samples, replace=True, review=lambda _: True).graphs


def test_texts_show_what_their_ids_show(kit: SimpleNamespace, mood: Path, tmp_path: Path) -> None:
    texts = ["a!", "what?"]
    feeds = [{"input_ids": np.array([kit.byte_tokens(text)])} for text in texts]
    by_text = ranges(mood, tmp_path / "out", calibration(mood, texts))["model"].ranges
    by_ids = ranges(mood, tmp_path / "out", {"model": feeds})["model"].ranges
    assert by_text == by_ids
    assert [set(found) for found in by_text.values()] == [{"argument"}]
    longer = calibration(mood, ["w" * 8])
    assert ranges(mood, tmp_path / "out", longer)["model"].ranges != by_text


def test_a_pipeline_shares_with_ranges(mood: Path, tmp_path: Path) -> None:
    want = ranges(mood, tmp_path / "out", calibration(mood, ["hm", "b?"]))["model"].digest
    with (
        pipeline(None, mood, calibrate=iter(["hm", "b?"])) as pipe,
        pipeline(None, mood, plain=True) as plain,
    ):
        assert pipe.runner._client.model.graphs["model"].digest == want
        assert pipe("b?")[0]["score"] == pytest.approx(plain("b?")[0]["score"], abs=1e-2)


def test_a_session_shares_with_ranges(mood: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Asked(Exception):
        pass

    def local(*_: object, samples: Any, **__: object) -> None:
        asked.append(samples)
        raise Asked

    monkeypatch.setattr("onnxpuma.session.LocalCluster", local)
    feeds = [{"input_ids": np.array([[4, 5]])}]
    for given in (feeds, {"model": feeds}):
        with pytest.raises(Asked):
            InferenceSession(mood, calibrate=given)
    assert asked == [{"model": feeds}] * 2


def test_texts_pictures_and_recordings_in_files(mood: Path, tmp_path: Path) -> None:
    """One text per line, named by file and line; two kinds of files are refused; arrays take precedence."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\ufeffa!\n\nwhat?\n", encoding="utf-8")
    for model in (mood, mood / "model.onnx"):
        samples = read_samples(texts, ["model"], model)["model"]
        assert [feed["input_ids"].size for feed in samples] == [2, 5]
    texts.write_text("a\n\n" + 9 * "b")
    with pytest.raises(InputError, match=r"texts\.txt:3: the text has 9 tokens"):
        list(read_samples(tmp_path, ["model"], mood)["model"])
    texts.write_text("\n")
    with pytest.raises(InputError, match="calibrate is empty"):
        read_samples(texts, ["model"], mood)
    (tmp_path / "a.PNG").touch()
    with pytest.raises(ConfigError, match=r"texts\.txt and a\.PNG: samples of two kinds"):
        read_samples(tmp_path, ["model"], mood)
    texts.unlink()
    with pytest.raises(InputError, match=r"a\.PNG: "):
        list(read_samples(tmp_path, ["model"], mood)["model"])
    np.savez(tmp_path / "x.npz", input_ids=np.array([[4, 5]]))
    assert [list(feed) for feed in read_samples(tmp_path, ["model"], mood)["model"]] == [["input_ids"]]


def test_models_that_write_are_run_for_some_tokens(kit: SimpleNamespace, tmp_path: Path) -> None:
    """The text ends at once, and the graph that continues from the cache is fed all the same."""
    script = kit.scripted({token: [kit.END] for token in range(kit.VOCABULARY)})
    causal = kit.causal_folder(tmp_path / "causal", script)
    feeds = list(calibration(causal, ["abc"])["model"])
    assert [feed["input_ids"].size for feed in feeds] == [3, 1, 1, 1]
    assert [feed["past_key_values.0.key"].shape[2] for feed in feeds] == [0, 3, 4, 5]
    pair = kit.pair_folder(tmp_path / "pair", script)
    counts = {graph: len(list(samples)) for graph, samples in calibration(pair, ["abc", "d"]).items()}
    assert counts == {"encoder_model": 2, "decoder_model": 2, "decoder_with_past_model": 6}
    assert set(ranges(pair, tmp_path / "out", calibration(pair, ["abc"]))) == set(counts)


def test_pictures(kit: SimpleNamespace, tmp_path: Path) -> None:
    """A path, an image and its bytes give one sample; a model that no task fits is fed for its features."""
    sketch = kit.Sketch()
    sketch.take("pixel_values", onnx.TensorProto.FLOAT, ["batch", 3, kit.SIDE, kit.SIDE])
    sketch.add("Tanh", ["pixel_values"], "seen")
    sketch.give("seen", ["batch", 3, kit.SIDE, kit.SIDE])
    sketch.save(tmp_path / "model.onnx")
    ViTImageProcessorPil(size={"height": kit.SIDE, "width": kit.SIDE}).save_pretrained(tmp_path)
    kit.write_folder(tmp_path, {}, {})
    array = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "dog.png")
    one, two, three = calibration(tmp_path, [image, tmp_path / "dog.png", array])["model"]
    assert one["pixel_values"].shape == (1, 3, kit.SIDE, kit.SIDE)
    assert np.array_equal(one["pixel_values"], two["pixel_values"])
    assert np.array_equal(one["pixel_values"], three["pixel_values"])
    with pytest.raises(InputError, match=r"calibrate\[1\]: an array of shape"):
        list(calibration(tmp_path, [image, array[..., :2]])["model"])


def test_recordings(kit: SimpleNamespace, tmp_path: Path) -> None:
    """A file and an array at the model's rate give the same sample."""
    folder = kit.pair_folder(tmp_path, kit.scripted(kit.chain("ok", kit.START)), sent="input_features")
    array = np.random.default_rng(0).normal(0, 0.1, kit.RATE // 2).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", array, kit.RATE, subtype="FLOAT")
    one, two = calibration(folder, [tmp_path / "a.wav", array])["encoder_model"]
    assert np.array_equal(one["input_features"], two["input_features"])


def test_raw_recordings_of_a_model_that_no_task_fits(kit: SimpleNamespace, tmp_path: Path) -> None:
    sketch = kit.Sketch()
    sketch.take("input_values", onnx.TensorProto.FLOAT, ["batch", "samples"])
    sketch.add("Tanh", ["input_values"], "heard")
    sketch.give("heard", ["batch", "samples"])
    sketch.save(tmp_path / "model.onnx")
    Wav2Vec2FeatureExtractor(sampling_rate=kit.RATE).save_pretrained(tmp_path)
    kit.write_folder(tmp_path, {}, {})
    (feed,) = calibration(tmp_path, [np.array([0.5, -0.5, 0.0, 0.2], np.float32)])["model"]
    assert feed["input_values"].shape == (1, 4)
    assert abs(feed["input_values"].mean()) < 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "calibrate is empty"),
        ("one text", "calibrate is a str"),
        ({"text": "a"}, "calibrate is a dict"),
        (7, "calibrate is a int"),
        (["a", 7], r"calibrate\[1\]: expected a text, got int"),
        (["a", "b", " "], r"calibrate\[2\]: the text is empty"),
        (["a" * 9], r"calibrate\[0\]: the text has 9 tokens, the model has 8 positions"),
    ],
)
def test_samples_that_do_not_fit(mood: Path, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline(None, mood, calibrate=given)


def test_what_is_no_number_is_named(kit: SimpleNamespace, tmp_path: Path) -> None:
    sketch = kit.Sketch(constants={"says": np.full((kit.VOCABULARY, 2), -1, np.float32)})
    sketch.take("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    sketch.add("Gather", ["says", "input_ids"], "rows")
    sketch.add("Sqrt", ["rows"], "last_hidden_state")
    sketch.give("last_hidden_state", ["batch", "sequence", 2])
    sketch.save(tmp_path / "model.onnx")
    kit.write_folder(tmp_path, {}, {})
    with pytest.raises(InputError, match=r"calibrate\[0\]: onnxruntime computes NaN"):
        list(calibration(tmp_path, ["a"])["model"])


def test_feeds_that_do_not_fit(mood: Path) -> None:
    model = mood / "model.onnx"
    good = {"input_ids": np.array([[4, 5]])}
    for given, message in (
        ([], "no sample to calibrate with"),
        (good, "not a list of feeds"),
        (["a text"], r"calibrate\[0\] is a str"),
        ([good, {"ids": good["input_ids"]}], r"calibrate\[1\]: .*no input 'ids'"),
    ):
        with pytest.raises(InputError, match=message):
            InferenceSession(model, calibrate=given)
    with pytest.raises(ConfigError, match="no graph of this name"):
        InferenceSession(model, calibrate={"encoder_model": [good]})


def test_a_model_that_is_not_shared_here(mood: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    share_model(mood, shared, review=lambda _: True)
    assert Blueprint.read(shared).ranges == {}
    for arguments in (
        {"model": mood, "plain": True},
        {"folder": mood, "cluster": "cluster.toml"},
        {"model": shared, "folder": mood},
    ):
        with pytest.raises(ConfigError, match="for a model that is shared here"):
            pipeline(None, calibrate=["a"], **arguments)
    with pytest.raises(ConfigError, match="shared already"):
        InferenceSession(shared, calibrate=[{}])
    with pytest.raises(ConfigError, match="does not go with"):
        InferenceSession(cluster="cluster.toml", calibrate=[{}])
