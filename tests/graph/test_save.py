"""The skeleton contains the whole graph and none of its secret values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.errors import ModelError
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.save import load_skeleton, skeleton_bytes
from onnxpuma.graph.visibility import classify

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("*.onnx"))


def canonical(path: Path) -> tuple[Graph, list[str]]:
    model = load(path)
    canonicalise(model)
    graph = to_graph(model)
    return graph, [n for n, found in classify(graph).items() if found.secret]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_servers_see_the_same_graph(path: Path, tmp_path: Path) -> None:
    graph, secret = canonical(path)
    (tmp_path / "skeleton.onnx").write_bytes(skeleton_bytes(graph, secret))
    seen = load_skeleton(tmp_path / "skeleton.onnx")
    assert (seen.inputs, seen.outputs, seen.opset) == (graph.inputs, graph.outputs, graph.opset)
    assert list(seen.inputs) == list(graph.inputs)
    assert list(seen.initializers) == list(graph.initializers)
    for ours, theirs in zip(graph.nodes, seen.nodes, strict=True):
        assert (ours.name, ours.op, ours.version) == (theirs.name, theirs.op, theirs.version)
        assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
        assert ours.attribute_key == theirs.attribute_key
    for name, weight in graph.initializers.items():
        theirs_weight = seen.initializers[name]
        assert (theirs_weight.dtype, theirs_weight.shape) == (weight.dtype, weight.shape)
        assert theirs_weight.available == (name not in secret)
        if theirs_weight.available:
            np.testing.assert_array_equal(theirs_weight.numpy(), weight.numpy())
        else:
            with pytest.raises(ModelError, match="secret"):
                theirs_weight.numpy()


def test_no_secret_value_is_in_the_bytes() -> None:
    graph, secret = canonical(DATA / "bert-dynamo-23.onnx")
    data = skeleton_bytes(graph, secret)
    for name in secret:
        values = graph.initializers[name].numpy()
        for number in values.reshape(-1)[:8]:
            assert number.tobytes() not in data, name


def test_the_same_bytes_for_the_same_graph() -> None:
    graph, secret = canonical(DATA / "llama-dynamo-18.onnx")
    once = skeleton_bytes(graph, secret)
    assert once == skeleton_bytes(graph, set(secret))
    assert once == skeleton_bytes(load_skeleton(once), secret)


def test_it_is_onnx_and_runs_when_fed_its_weights(run_model: Any) -> None:
    path = DATA / "bert-torchscript-17.onnx"
    graph, secret = canonical(path)
    data = skeleton_bytes(graph, secret)
    onnx.checker.check_model(data, full_check=True)
    feeds = {"input_ids": np.array([[1, 2, 3, 4]]), "attention_mask": np.ones((1, 4), np.int64)}
    expected = run_model(onnx.load(path), feeds)
    weights = {n: graph.initializers[n].numpy() for n in secret}
    found = run_model(onnx.ModelProto.FromString(data), {**feeds, **weights})
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_what_is_no_skeleton_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the skeleton"):
        load_skeleton(DATA / "bert-dynamo-23.onnx")
    with pytest.raises(ModelError, match="not ONNX"):
        load_skeleton(b"no")
    with pytest.raises(ModelError, match="not a file"):
        load_skeleton(tmp_path / "nothing.onnx")


def test_a_skeleton_that_lists_other_weights_is_refused() -> None:
    graph, secret = canonical(DATA / "vit-dynamo-20.onnx")
    model = onnx.ModelProto.FromString(skeleton_bytes(graph, secret))
    for entry in model.metadata_props:
        entry.value = entry.value.replace(secret[0], "another")
    with pytest.raises(ModelError, match="missing weights"):
        load_skeleton(model.SerializeToString())


def test_a_skeleton_that_points_to_a_file_is_refused() -> None:
    graph, secret = canonical(DATA / "vit-dynamo-20.onnx")
    model = onnx.ModelProto.FromString(skeleton_bytes(graph, secret))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "hosts"
    with pytest.raises(ModelError, match="outside itself"):
        load_skeleton(model.SerializeToString())
