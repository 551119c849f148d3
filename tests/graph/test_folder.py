"""Which ONNX files of a folder form the model, and which branch of a merged decoder is which graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxpuma.errors import ModelError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.folder import find


def taken(folder: Path) -> dict[str, str]:
    """Graph -> file."""
    return {source.name: source.path.name for source in find(folder).sources}


@pytest.mark.parametrize(
    ("files", "graphs", "ignored"),
    [
        (["anything"], {"model": "anything"}, ()),
        (["model"], {"model": "model"}, ()),
        (["model", "model_quantized"], {"model": "model"}, ("model_quantized.onnx",)),
        (
            [
                "encoder_model",
                "decoder_model",
                "decoder_with_past_model",
                "decoder_model_merged",
                "decoder_q4",
            ],
            {n: n for n in ("encoder_model", "decoder_model", "decoder_with_past_model")},
            ("decoder_model_merged.onnx", "decoder_q4.onnx"),
        ),
        (["decoder_model", "encoder_model"], {n: n for n in ("encoder_model", "decoder_model")}, ()),
        (
            ["encoder_model", "decoder_model_merged"],
            {
                "encoder_model": "encoder_model",
                "decoder_model": "decoder_model_merged",
                "decoder_with_past_model": "decoder_model_merged",
            },
            (),
        ),
        (
            ["decoder_model", "decoder_model_merged"],
            {"decoder_model": "decoder_model", "decoder_with_past_model": "decoder_model_merged"},
            (),
        ),
        (
            ["encoder_model_quantized", "decoder_model_merged_quantized"],
            {
                "encoder_model": "encoder_model_quantized",
                "decoder_model": "decoder_model_merged_quantized",
                "decoder_with_past_model": "decoder_model_merged_quantized",
            },
            (),
        ),
        (
            ["model_q4", "model_fp16", "model_int8"],
            {"model": "model_fp16"},
            ("model_int8.onnx", "model_q4.onnx"),
        ),
        (
            ["encoder_model_int8", "encoder_model_q4", "decoder_model_q4", "decoder_model_merged"],
            {
                "encoder_model": "encoder_model_int8",
                "decoder_model": "decoder_model_merged",
                "decoder_with_past_model": "decoder_model_merged",
            },
            ("decoder_model_q4.onnx", "encoder_model_q4.onnx"),
        ),
        (
            ["decoder_model_merged_q4"],
            {
                "decoder_model": "decoder_model_merged_q4",
                "decoder_with_past_model": "decoder_model_merged_q4",
            },
            (),
        ),
        (["encoder_model", "notes"], {"model": "encoder_model"}, ("notes.onnx",)),
    ],
)
def test_what_is_taken(
    files: list[str], graphs: dict[str, str], ignored: tuple[str, ...], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / f"{name}.onnx").write_bytes(b"not read yet")
    assert taken(tmp_path) == {name: f"{file}.onnx" for name, file in graphs.items()}
    assert list(taken(tmp_path)) == list(graphs)
    assert find(tmp_path).ignored == ignored


def test_a_file_is_the_model(tmp_path: Path) -> None:
    assert taken(tmp_path / "encoder_model.onnx") == {"model": "encoder_model.onnx"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no ONNX file"),
        (["text", "vision"], "which of text.onnx, vision.onnx"),
        (["model", "encoder_model", "decoder_model"], "two models: model.onnx, and encoder_model.onnx, deco"),
    ],
)
def test_what_is_refused(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / f"{name}.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=message) as caught:
        find(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("beside", [["config.json"], []])
def test_a_folder_within(beside: list[str], tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    for name in ("model_quantized.onnx", "model_q4.onnx"):
        (tmp_path / "onnx" / name).write_bytes(b"")
    for name in beside:
        (tmp_path / name).write_text("{}")
    (source,) = find(tmp_path).sources
    assert (source.name, source.path) == ("model", tmp_path / "onnx" / "model_quantized.onnx")
    assert find(tmp_path).ignored == ("model_q4.onnx",)


def test_files_of_the_folder_itself_come_first(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    for name in ("onnx/model.onnx", "model_fp16.onnx"):
        (tmp_path / name).write_bytes(b"")
    assert taken(tmp_path) == {"model": "model_fp16.onnx"}


def run(model: bytes | Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("decoder_model", ["input_ids", "encoder_hidden_states"], ["logits", "present", "seen"]),
        ("decoder_with_past_model", ["input_ids", "past"], ["logits", "present"]),
    ],
)
def test_a_merged_decoder_is_two_graphs(
    name: str, inputs: list[str], outputs: list[str], write_graphs: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_graphs(tmp_path, "encoder_model", "decoder_model_merged")
    source = next(source for source in find(folder).sources if source.name == name)
    model = source.load()
    assert [value.name for value in model.graph.inputs] == inputs
    assert [value.name for value in model.graph.outputs] == outputs
    assert all(len(value.uses()) == 1 for n, value in model.graph.initializers.items() if n == "lm_head")
    canonicalise(model)
    rng = np.random.default_rng(0)
    feed = {
        "input_ids": rng.integers(0, 30, (2, 3)),
        "encoder_hidden_states": rng.normal(size=(2, 4, 8)).astype(np.float32),
        "past": rng.normal(size=(2, 5, 8)).astype(np.float32),
    }
    branch = np.array([name == "decoder_with_past_model"])
    want = run(folder / "decoder_model_merged.onnx", {**feed, "use_cache_branch": branch})
    got = run(ir.to_proto(model).SerializeToString(), {key: feed[key] for key in inputs})
    assert list(got) == outputs
    for key, value in got.items():
        np.testing.assert_allclose(value, want[key], atol=1e-5)


def test_a_merged_decoder_without_a_switch(write_graphs: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_graphs(tmp_path, "encoder_model", "decoder_model")
    onnx.save(onnx.load(folder / "decoder_model.onnx"), folder / "decoder_model_merged.onnx")
    merged = next(s for s in find(folder).sources if s.path.stem == "decoder_model_merged")
    with pytest.raises(ModelError, match="no input 'use_cache_branch'"):
        merged.load()
