"""Sharing a model and reading one party's shares: the content of the files, and the refusals."""

from __future__ import annotations

import stat
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors import safe_open

import onnxpuma.roles.owner.packing as packing
from onnxpuma.errors import ConfigError, ModelError
from onnxpuma.graph.folder import ONLY_GRAPH
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.weights import load_weights


def opened(folder: Path) -> dict[str, np.ndarray]:
    """The weights that the three parties hold together; checks that the parties agree on each component."""
    blueprint = Blueprint.read(folder)
    held = [load_weights(folder, party)[ONLY_GRAPH] for party in range(3)]
    found = {}
    for name in blueprint.weights:
        parts = [held[party][name] for party in range(3)]
        for party in range(3):
            assert np.array_equal(parts[party].second, parts[(party + 1) % 3].first)
            assert np.array_equal(parts[party].total, parts[party].first + parts[party].second)
        words = parts[0].first + parts[1].first + parts[2].first
        found[name] = parts[0].format.decode(words).reshape(parts[0].shape)
    return found


def changed(model_path: Path, tmp_path: Path, name: str, value: np.ndarray) -> Path:
    """A copy of the model with one weight replaced."""
    model = onnx.load(model_path)
    weight = next(t for t in model.graph.initializer if t.name == name)
    weight.CopyFrom(numpy_helper.from_array(value, name))
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    return path


def test_the_components_add_up_to_the_weights(model_path: Path, model_dir: Path) -> None:
    weights = opened(model_dir)
    assert set(weights) == {"table", "kernel", "bias"}
    for tensor in onnx.load(model_path).graph.initializer:
        if tensor.name in weights:
            assert np.abs(weights[tensor.name] - numpy_helper.to_array(tensor)).max() <= 2**-19


def test_a_weight_longer_than_a_block(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 128)
    share_model(model_path, tmp_path)
    table = next(t for t in onnx.load(model_path).graph.initializer if t.name == "table")
    assert np.abs(opened(tmp_path)["table"] - numpy_helper.to_array(table)).max() <= 2**-19


def test_files_are_private_and_party_0_holds_keys_alone(model_dir: Path) -> None:
    files = [model_dir / f"party{party}.keys" for party in range(3)]
    for file in (*files, model_dir / "words.safetensors"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "tags" not in files[0].read_text()
    assert not list(model_dir.glob(".*"))


def test_the_words_of_a_file_look_random(model_dir: Path) -> None:
    for party in range(3):
        words = load_weights(model_dir, party)[ONLY_GRAPH]["table"]
        for component in (words.first, words.second, words.total):
            ones = np.unpackbits(np.ascontiguousarray(component).view(np.uint8)).mean()
            assert 0.45 < ones < 0.55


def test_each_call_draws_new_keys(model_path: Path, model_dir: Path, tmp_path: Path) -> None:
    share_model(model_path, tmp_path)
    first, second = (load_weights(d, 0)[ONLY_GRAPH]["bias"].first for d in (model_dir, tmp_path))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("kind", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floats(kind: type, model_path: Path, tmp_path: Path) -> None:
    value = np.linspace(-2, 2, 8).astype(kind)
    model = onnx.load(model_path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = value if tensor.name == "bias" else numpy_helper.to_array(tensor).astype(kind)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for info in (*model.graph.input, *model.graph.output):
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            info.type.tensor_type.elem_type = element
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to":
                attribute.i = element
    onnx.save(model, tmp_path / "other.onnx")
    share_model(tmp_path / "other.onnx", tmp_path / "out")
    assert np.abs(opened(tmp_path / "out")["bias"] - value.astype(np.float64)).max() <= 2**-19


def test_weights_outside_the_protobuf(model_path: Path, tmp_path: Path) -> None:
    model = onnx.load(model_path)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    share_model(tmp_path / "m.onnx", tmp_path / "out")
    assert opened(tmp_path / "out")["table"].shape == (50, 8)


def test_progress_names_every_weight(model_path: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    share_model(model_path, tmp_path, progress=lambda *news: told.append(news))
    assert [done for done, _, _ in told] == [0, 1, 2, 3]
    assert {name for _, _, name in told} == {"table", "kernel", "bias", ""}


@pytest.mark.parametrize(("value", "why"), [(np.nan, "NaN"), (np.inf, "infinity"), (3e5, "magnitude 300000")])
def test_a_weight_out_of_range_is_named(value: float, why: str, model_path: Path, tmp_path: Path) -> None:
    bias = np.zeros(8, np.float32)
    bias[3] = value
    path = changed(model_path, tmp_path, "bias", bias)
    with pytest.raises(ModelError, match="weight 'bias'") as caught:
        share_model(path, tmp_path / "out")
    assert why in caught.value.message
    assert caught.value.hint
    assert not list((tmp_path / "out").iterdir()), "nothing is left behind"


def test_what_is_looked_up_has_a_range_of_its_own(model_path: Path, tmp_path: Path) -> None:
    """A look-up by a client's ids gives rows mod 2^32."""
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(model_path).graph.initializer}
    share_model(changed(model_path, tmp_path, "bias", stored["bias"] + np.float32(5000)), tmp_path / "out")
    path = changed(model_path, tmp_path, "table", stored["table"] + np.float32(5000))
    with pytest.raises(ModelError, match=r"weight 'table' .* below 4096"):
        share_model(path, tmp_path / "other")


def test_small_numbers_keep_their_digits_in_the_files(model_path: Path, tmp_path: Path) -> None:
    kernel = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32) * np.float32(1e-4)
    share_model(changed(model_path, tmp_path, "kernel", kernel), tmp_path / "out")
    assert Blueprint.read(tmp_path / "out").fractions == {"kernel": 28}
    assert np.abs(opened(tmp_path / "out")["kernel"] - kernel).max() <= 2.0**-29


def test_a_failure_leaves_an_earlier_share_as_it_was(model_path: Path, tmp_path: Path) -> None:
    share_model(model_path, tmp_path / "out")
    before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    path = changed(model_path, tmp_path, "kernel", np.full((8, 8), np.nan, np.float32))
    with pytest.raises(ModelError):
        share_model(path, tmp_path / "out", replace=True)
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before


def test_a_folder_that_cannot_be_written(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        share_model(model_path, tmp_path / "file")


def test_the_words_are_safetensors(model_dir: Path) -> None:
    with safe_open(model_dir / "words.safetensors", framework="np") as file:
        assert sorted(file.keys()) == ["bias", "kernel", "table"]
        assert set(file.metadata()) == {"format", "digest", "dealing", "checksum"}
        for name in file.keys():  # noqa: SIM118  (it is no dictionary)
            assert file.get_tensor(name).dtype == (np.uint32 if name == "table" else np.uint64)
