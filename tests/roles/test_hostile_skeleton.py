"""A skeleton that names a file on its reader's machine is refused, wherever the name stands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpuma.errors import PlanError
from onnxpuma.plan.blueprint import POLICY, SKELETON, Blueprint
from onnxpuma.plan.policy_file import digest_of, written
from onnxpuma.roles.shared.model import SharedModel

FILE = "client.secret"
Change = Callable[[onnx.ModelProto], None]


def outside(name: str = "stolen", **entries: str) -> TensorProto:
    """A tensor of eight bytes that claims to lie in the file."""
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[8])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": FILE, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def constant(tensor: TensorProto, name: str = "stolen") -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], name=f"{name}/node", value=tensor)


def branch(nodes: list[onnx.NodeProto], kept: list[TensorProto], output: str) -> onnx.GraphProto:
    info = helper.make_tensor_value_info(output, TensorProto.UINT8, [8])
    return helper.make_graph(nodes, f"branch {output}", [], [info], kept)


def choice(then: onnx.GraphProto, other: onnx.GraphProto) -> list[onnx.NodeProto]:
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return [
        constant(yes, "yes"),
        helper.make_node("If", ["yes"], ["chosen"], name="choice", then_branch=then, else_branch=other),
    ]


def in_an_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(outside())


def without_saying_so(model: onnx.ModelProto) -> None:
    tensor = outside()
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = bytes(8)
    model.graph.initializer.append(tensor)


def in_a_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(constant(outside()))


def in_memory(model: onnx.ModelProto) -> None:
    model.graph.node.append(constant(outside(location="*/_ORT_MEM_ADDR_/*", offset="4096", length="8")))


def in_an_attribute_of_tensors(model: onnx.ModelProto) -> None:
    node = helper.make_node("Mine", [], ["mine"], domain="com.microsoft")
    node.attribute.append(helper.make_attribute("all", [outside(), outside()]))
    model.graph.node.append(node)


def in_a_branch(model: onnx.ModelProto) -> None:
    other = branch([constant(outside(), "b")], [], "b")
    model.graph.node.extend(choice(branch([constant(outside(), "a")], [], "a"), other))


def in_an_initializer_of_a_branch(model: onnx.ModelProto) -> None:
    copy = helper.make_node("Identity", ["kept"], ["a"])
    other = helper.make_node("Identity", ["kept"], ["b"])
    kept = [outside("kept")]
    model.graph.node.extend(choice(branch([copy], kept, "a"), branch([other], kept, "b")))


def in_a_branch_of_a_branch(model: onnx.ModelProto) -> None:
    deep = choice(branch([constant(outside(), "a")], [], "a"), branch([constant(outside(), "b")], [], "b"))
    other = branch([constant(outside(), "c")], [], "c")
    model.graph.node.extend(choice(branch(deep, [], "chosen"), other))


def in_a_function(model: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 24)]
    model.functions.append(helper.make_function("mine", "F", [], ["stolen"], [constant(outside())], opset))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.append(helper.make_node("F", [], ["called"], domain="mine"))


def in_the_default_of_a_function(model: onnx.ModelProto) -> None:
    in_a_function(model)
    model.functions[0].node[0].attribute[0].t.CopyFrom(helper.make_tensor("x", TensorProto.UINT8, [1], [0]))
    model.functions[0].attribute_proto.append(helper.make_attribute("value", outside()))


def sparse() -> onnx.SparseTensorProto:
    indices = TensorProto(name="indices", data_type=TensorProto.INT64, dims=[1])
    indices.data_location = TensorProto.EXTERNAL
    indices.external_data.add(key="location", value=FILE)
    return onnx.SparseTensorProto(values=outside(), indices=indices, dims=[8])


def in_a_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(sparse())


def in_a_sparse_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["stolen"], sparse_value=sparse()))


def in_the_part_about_training(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.initializer.append(outside())


CHANGES = [
    in_an_initializer,
    without_saying_so,
    in_a_constant,
    in_memory,
    in_an_attribute_of_tensors,
    in_a_branch,
    in_an_initializer_of_a_branch,
    in_a_branch_of_a_branch,
    in_a_function,
    in_the_default_of_a_function,
    in_a_sparse_initializer,
    in_a_sparse_constant,
    in_the_part_about_training,
]


def hostile(blueprint: Blueprint, change: Change) -> dict[str, bytes]:
    """The public files with a changed skeleton and its correct digest."""
    model = onnx.ModelProto.FromString(blueprint.skeleton)
    change(model)
    policy = json.loads(blueprint.files()[POLICY])
    for tensor in model.graph.initializer:
        if tensor.name not in policy["visibility"]:
            policy["visibility"][tensor.name], policy["reasons"][tensor.name] = "public", "integers"
    entry = next(p for p in model.metadata_props if p.key == "onnxpuma.initializers")
    entry.value = json.dumps(list(policy["visibility"].items()))
    skeleton = model.SerializeToString()
    return {SKELETON: skeleton, POLICY: written({**policy, "digest": digest_of(skeleton, policy)})}


@pytest.fixture(scope="module")
def blueprint(model_dir: Path) -> Blueprint:
    return Blueprint.read(model_dir)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that Python opens; the current folder holds the requested one."""
    (tmp_path / FILE).write_bytes(b"a secret of mine, longer than eight bytes")
    monkeypatch.chdir(tmp_path)
    names: list[str] = []
    WATCHERS[:] = [names]
    yield names
    WATCHERS.clear()


WATCHERS: list[list[str]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and WATCHERS and isinstance(arguments[0], str):
        WATCHERS[0].append(arguments[0])


sys.addaudithook(_watch)


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_servers_sent_reads_no_file(change: Change, blueprint: Blueprint, opened: list[str]) -> None:
    files = hostile(blueprint, change)
    with pytest.raises(PlanError, match="outside itself") as refused:
        SharedModel.from_menu(list(files.values()))
    assert refused.value.hint
    assert not [name for name in opened if FILE in name]


@pytest.mark.parametrize("change", CHANGES)
def test_the_folder_of_a_server_reads_no_file(
    change: Change, blueprint: Blueprint, opened: list[str], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for name, content in hostile(blueprint, change).items():
        (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(PlanError, match="outside itself"):
        SharedModel.read(tmp_path / "model")
    assert not [name for name in opened if FILE in name]


def test_the_same_skeleton_is_taken_where_it_names_no_file(blueprint: Blueprint) -> None:
    def harmless(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(8, np.uint8), "stolen"))

    read = SharedModel.from_menu(list(hostile(blueprint, harmless).values()))
    assert "stolen" in read.blueprint.graph.initializers
