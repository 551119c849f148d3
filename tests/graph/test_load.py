"""A damaged, incomplete or hostile file is refused with a hint; a good one keeps its weights on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ModelError, UnsupportedModelError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.reference import run_file

WEIGHT = np.arange(64, dtype=np.float32).reshape(8, 8)


def product(**changes: object) -> onnx.ModelProto:
    """y = x w"""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(product(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(path)
    for word in words:
        assert word in caught.value.message
    assert caught.value.hint


def test_a_model_with_its_weights_inside(tmp_path: Path) -> None:
    onnx.save(product(), tmp_path / "model.onnx")
    graph = to_graph(load(tmp_path / "model.onnx"))
    np.testing.assert_array_equal(graph.initializers["w"].numpy(), WEIGHT)


def test_external_weights_stay_in_their_file(external: Path) -> None:
    model = load(external)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert tensor.raw is None  # nothing mapped yet
    initializer = to_graph(model).initializers["w"]
    values = initializer.numpy()
    np.testing.assert_array_equal(values, WEIGHT)
    assert not values.flags.writeable
    initializer.release()
    np.testing.assert_array_equal(initializer.numpy(), WEIGHT)


def test_a_relative_path(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(external.parent)
    graph = to_graph(load("model.onnx"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(graph.initializers["w"].numpy(), WEIGHT)


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.onnx", "not a file")
    refused(tmp_path, "not a file")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    refused(tmp_path / "model.onnx", "empty")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n and more", b"{}", bytes(1000), b"\x08\x0a"])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    refused(tmp_path / "model.onnx", "not ONNX")


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = product().SerializeToString()
    path = tmp_path / "model.onnx"
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError):
            load(path)


def test_missing_external_data(external: Path) -> None:
    (external.parent / "model.data").unlink()
    refused(external, "missing", "'w'")


def test_external_data_too_short(external: Path) -> None:
    data = external.parent / "model.data"
    data.write_bytes(data.read_bytes()[:-4])
    refused(external, "too short", "'w'")


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret", ""])
def test_external_data_outside_the_folder(external: Path, location: str) -> None:
    (external.parent.parent / "secret").write_bytes(bytes(256))
    model = onnx.load(external, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    external.write_bytes(model.SerializeToString())
    refused(external, "outside the model's folder")


def test_a_link_out_of_the_folder(external: Path) -> None:
    data = external.parent / "model.data"
    data.rename(external.parent.parent / "elsewhere")
    data.symlink_to(external.parent.parent / "elsewhere")
    refused(external, "outside the model's folder")


def test_a_hard_link(external: Path) -> None:
    os.link(external.parent / "model.data", external.parent.parent / f"{external.parent.name}-link")
    refused(external, "hard links")


def test_a_length_that_does_not_fit_the_shape(external: Path) -> None:
    model = onnx.load(external, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "length":
            entry.value = "128"
    external.write_bytes(model.SerializeToString())
    refused(external, "256 bytes by its shape", "128")


def test_weights_inside_that_do_not_fit_their_shape(tmp_path: Path) -> None:
    model = product()
    model.graph.initializer[0].raw_data = bytes(12)
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "'w'", "256 bytes by its shape", "12")


def test_a_negative_dimension(tmp_path: Path) -> None:
    model = product()
    model.graph.initializer[0].dims[:] = [-8, -8]
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "'w'")


def test_a_missing_weight(tmp_path: Path) -> None:
    model = product()
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "'product'", "'w'", "no input, initializer or output")


def test_a_cycle(tmp_path: Path) -> None:
    model = product()
    model.graph.node[0].input[0] = "z"
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "needs its own output")


def test_an_output_nobody_produces(tmp_path: Path) -> None:
    model = product()
    model.graph.output[0].name = "nowhere"
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "nothing produces the output 'nowhere'")


def test_an_unknown_operator(tmp_path: Path) -> None:
    model = product()
    model.graph.node[0].op_type = "MatMulk"
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", "not valid ONNX", "MatMulk")


def test_too_new(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = product()
    model.opset_import[0].version = 999
    path.write_bytes(model.SerializeToString())
    refused(path, "opset 999")
    model = product()
    model.ir_version = 999
    path.write_bytes(model.SerializeToString())
    refused(path, "IR version 999")


def test_no_opset(tmp_path: Path) -> None:
    model = product()
    del model.opset_import[:]
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "model.onnx", "which opset")


def test_sparse_weights(tmp_path: Path) -> None:
    model = product()
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "s_indices"))
    sparse.dims.extend([8])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModelError):
        load(tmp_path / "model.onnx")


def test_more_than_a_protobuf_can_hold(tmp_path: Path) -> None:
    """3 GB of weights in a sparse file are loaded, and read at one place, without being held in memory."""
    rows, path = 3 << 18, tmp_path / "large.onnx"
    model = product()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = [rows, 1024]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "large.data"), ("offset", "0"), ("length", str(rows * 4096))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = rows
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1024
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "large.data").open("wb") as data:
        data.truncate(rows * 4096)
        data.seek(rows * 4096 - 4)
        data.write(np.float32(3).tobytes())
    weight = to_graph(load(path)).initializers["w"]
    assert weight.numpy()[-1, -1] == 3
    weight.release()


@pytest.mark.parametrize(
    "declared", [onnx.ValueInfoProto(name="y"), helper.make_tensor_value_info("y", 1, None)]
)
def test_an_output_without_a_shape(tmp_path: Path, declared: onnx.ValueInfoProto) -> None:
    model = product()
    model.graph.output[0].CopyFrom(declared)
    onnx.save(model, tmp_path / "model.onnx")
    made = load(tmp_path / "model.onnx")
    canonicalise(made)
    kind = to_graph(made).outputs["y"]
    assert (kind.dtype, kind.shape) == (np.float32, ("batch", 8))


@pytest.mark.parametrize("kind", ["type", "shape"])
def test_an_input_without_a_shape_is_refused(tmp_path: Path, kind: str) -> None:
    model = product()
    if kind == "type":
        model.graph.input[0].ClearField("type")
    else:
        model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "model.onnx")
    refused(tmp_path / "model.onnx", f"input 'x' has no {kind}")


def cached(external: Path, place: str = "snapshots/0123abc/onnx") -> Path:
    """The model as a hub's client stores it: files under their hashes, links to them under their names."""
    root = external.parent / "models--somebody--model"
    folder, blobs = root / place, root / "blobs"
    for each in (folder, blobs, root / "snapshots"):
        each.mkdir(parents=True, exist_ok=True)
    for name, blob in ((external.name, "aaa"), ("model.data", "bbb")):
        external.with_name(name).rename(blobs / blob)
        (folder / name).symlink_to(os.path.relpath(blobs / blob, folder))
    return folder / external.name


@pytest.mark.parametrize("place", ["snapshots/0123abc", "snapshots/0123abc/onnx", "../local"])
def test_links_inside_the_cache_of_a_hub(external: Path, place: str) -> None:
    path = cached(external, place)
    np.testing.assert_array_equal(to_graph(load(path)).initializers["w"].numpy(), WEIGHT)
    found = run_file(path, {"x": np.eye(8)})
    np.testing.assert_array_equal(found["y"], WEIGHT)


@pytest.mark.parametrize("target", ["../../../outside", "../other/file", "../../../another/blobs/bbb"])
def test_links_out_of_the_cache(external: Path, target: str) -> None:
    path = cached(external, "snapshots/0123abc")
    link = path.parent / "model.data"
    link.unlink()
    place = path.parent / target
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(WEIGHT.tobytes())
    link.symlink_to(target)
    refused(path, "outside the model's folder")


@pytest.mark.parametrize("location", ["../../blobs/bbb", "/etc/hostname", "bbb"])
def test_a_model_in_a_cache_names_no_other_place(external: Path, location: str) -> None:
    path = cached(external, "snapshots/0123abc")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.resolve().write_bytes(model.SerializeToString())
    refused(path, "missing" if location == "bbb" else "outside the model's folder")


def test_a_link_to_blobs_that_are_no_cache(external: Path) -> None:
    path = cached(external, "snapshots/0123abc")
    (path.parents[2] / "snapshots").rename(path.parents[2] / "others")
    refused(path.parents[2] / "others" / "0123abc" / path.name, "outside the model's folder")


def test_old_files_whose_weights_are_no_inputs(tmp_path: Path) -> None:
    model = product()
    model.ir_version = 3
    model.opset_import[0].version = 8
    onnx.save(model, tmp_path / "model.onnx")
    np.testing.assert_array_equal(to_graph(load(tmp_path / "model.onnx")).initializers["w"].numpy(), WEIGHT)
