"""External data of an owner's model is read from the model's folder, wherever the model refers to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ModelError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import to_graph

WEIGHT = np.arange(64, dtype=np.float32).reshape(8, 8) + 0.5


def stored(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 8])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="256")
    return tensor


def product(
    nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto] | None = None
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
    )
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid("mine", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions or [])


def in_an_attribute(location: str) -> onnx.ModelProto:
    return product([helper.make_node("Constant", [], ["w"], value=stored(location))])


def in_a_branch(location: str) -> onnx.ModelProto:
    info = helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 8])

    def branch(name: str) -> onnx.GraphProto:
        tensor = stored(location)
        tensor.name = name
        out = onnx.ValueInfoProto(name=f"{name}/out", type=info.type)
        copy = helper.make_node("Identity", [name], [f"{name}/out"])
        return helper.make_graph([copy], name, [], [out], [tensor])

    yes = numpy_helper.from_array(np.array(True), "yes")
    return product(
        [
            helper.make_node("Constant", [], ["yes"], value=yes),
            helper.make_node("If", ["yes"], ["w"], then_branch=branch("then"), else_branch=branch("else")),
        ]
    )


def in_a_function(location: str) -> onnx.ModelProto:
    body = [helper.make_node("Constant", [], ["c"], value=stored(location))]
    function = helper.make_function("mine", "F", [], ["c"], body, [helper.make_opsetid("", 20)])
    return product([helper.make_node("F", [], ["w"], domain="mine")], [function])


PLACES = [in_an_attribute, in_a_branch, in_a_function]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that is not the model's, with a file of the same name and other numbers."""
    folder = tmp_path / "current"
    folder.mkdir()
    (folder / "model.data").write_bytes(np.full(64, 666, np.float32).tobytes())
    monkeypatch.chdir(folder)
    return folder


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("place", PLACES)
def test_data_is_read_from_the_model_s_folder(place, elsewhere: Path, tmp_path: Path) -> None:
    path = saved(place("model.data"), tmp_path / "model")
    (tmp_path / "model" / "model.data").write_bytes(WEIGHT.tobytes())
    model = load(path)
    canonicalise(model)
    graph = to_graph(model)
    arrays = [i.numpy() for i in graph.initializers.values() if i.shape == (8, 8)]
    assert arrays
    for array in arrays:
        np.testing.assert_array_equal(array, WEIGHT)


@pytest.mark.parametrize("place", PLACES)
def test_data_of_the_current_folder_is_not_read(place, elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        load(saved(place("model.data"), tmp_path / "model"))


@pytest.mark.parametrize("place", PLACES)
def test_data_outside_the_folder_is_refused(place, elsewhere: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(saved(place("../current/model.data"), tmp_path / "model"))


def test_sparse_data_of_another_file_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    indices = numpy_helper.from_array(np.arange(64), "indices")
    values = stored("model.data")
    del values.dims[:]
    values.dims.append(64)
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=[8, 8])
    model = product([helper.make_node("Constant", [], ["w"], sparse_value=sparse)])
    with pytest.raises(ModelError):
        load(saved(model, tmp_path / "model"))
