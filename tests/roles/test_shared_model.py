"""Models of several graphs: arrays shared once, files and menus, and refusals."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxpuma.errors import ConfigError, ModelError, PlanError, UnsupportedModelError
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Initializer
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.roles.owner import reading
from onnxpuma.roles.owner.dedupe import assign, rank_of
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import load_weights

NAMES = ["encoder_model", "decoder_model", "decoder_with_past_model"]


@pytest.fixture(scope="module")
def shared(graphs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    share_model(graphs_folder, folder)
    return folder


def opened(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The weights of each graph, from the components of the three parties."""
    held = [load_weights(folder, party) for party in range(3)]
    return {
        graph: {
            name: share.format.decode(sum(each[graph][name].first for each in held))
            for name, share in names.items()
        }
        for graph, names in held[0].items()
    }


def originals(folder: Path, graph: str) -> dict[str, np.ndarray]:
    tensors = onnx.load(folder / f"{graph}.onnx").graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def check_opened(shared: Path, source: Path) -> None:
    for graph, weights in opened(shared).items():
        for name, values in originals(source, graph).items():
            assert np.abs(weights[name] - values).max() <= 2**-19


def test_every_graph_has_its_weights(shared: Path, graphs_folder: Path) -> None:
    check_opened(shared, graphs_folder)


def test_what_is_written(shared: Path) -> None:
    files = sorted(str(path.relative_to(shared)) for path in shared.rglob("*") if path.is_file())
    public = [f"{name}/{file}" for name in NAMES for file in ("policy.json", "skeleton.onnx")]
    assert files == sorted(
        [*public, "model.json", "words.safetensors", *(f"party{i}.keys" for i in range(3))]
    )


def test_arrays_in_common_are_stored_and_held_once(shared: Path) -> None:
    model = SharedModel.read(shared)
    assert list(model.graphs) == NAMES
    assert model.stored["decoder_model"]["embed.weight"] == "encoder_model/shared.weight"
    # table, kernel and bias of the encoder; cross, head and a bias of another name from the decoders
    assert len(model.arrays) == 6
    words = sum(model.formats[name].bytes(array.size) for name, array in model.arrays.items())
    content = (shared / "words.safetensors").read_bytes()
    assert len(content) - 8 - int.from_bytes(content[:8], "little") == words  # what follows the header
    held = load_weights(shared, 1, model)
    assert held["decoder_model"]["lm_head"] is held["decoder_with_past_model"]["lm_head"]
    assert held["decoder_model"]["bias"] is held["decoder_with_past_model"]["bias"]
    assert held["decoder_model"]["embed.weight"] is held["encoder_model"]["shared.weight"]
    assert held["decoder_model"]["bias"] is not held["encoder_model"]["encoder.bias"]


def test_arrays_that_become_different_stay_apart(graphs_folder: Path, tmp_path: Path) -> None:
    """One graph folds a factor into a weight, so its array differs from the file's."""
    folder = Path(shutil.copytree(graphs_folder, tmp_path / "graphs"))
    model = onnx.load(folder / "decoder_model.onnx")
    model.graph.node[-1].input[0] = "scaled"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.25), "factor"))
    model.graph.node.insert(-1, helper.make_node("Mul", ["moved", "factor"], ["scaled"]))
    onnx.save(model, folder / "decoder_model.onnx")
    found = share_model(folder, tmp_path / "shared").stored
    assert found["decoder_model"]["lm_head"] != found["decoder_with_past_model"]["lm_head"]
    weights = opened(tmp_path / "shared")
    ratio = weights["decoder_model"]["lm_head"] / originals(folder, "decoder_model")["lm_head"]
    np.testing.assert_allclose(ratio, 0.25, atol=1e-2)


def test_equal_arrays_of_one_graph_are_not_told() -> None:
    twice = {"a": (b"1", 2), "b": (b"1", 2), "v": (b"2", 1)}
    stored = assign({"first": twice, "second": {"w": (b"2", 1), **twice}})
    assert stored["first"] == {"a": "first/a", "b": "first/b", "v": "first/v"}
    assert stored["second"] == {"a": "first/a", "b": "first/b", "v": "first/v", "w": "second/w"}


def test_arrays_that_may_be_equal_by_chance_tell_nothing_by_their_axes() -> None:
    drawn = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    ranks = {
        (16, 16): (drawn, 2),
        (4, 16, 4): (drawn.reshape(4, 16, 4), 3),
        (1, 256): (drawn.reshape(1, 256), 1),
        (1, 1): (drawn[:1, :1], 0),
        (4, 4): (drawn[:4, :4], 1),
        "zeros": (np.zeros((16, 16), np.float32), 1),
    }
    for values, rank in ranks.values():
        weight = Initializer("w", values.dtype, values.shape, ir.tensor(values))
        assert rank_of(weight) == rank


@pytest.mark.parametrize(("width", "told"), [(4, False), (16, True)])
def test_matrices_that_may_be_equal_by_chance_are_shared_twice(
    width: int, told: bool, tmp_path: Path
) -> None:
    values = np.random.default_rng(1).normal(size=(width, width)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", width]) for n in "xy")
    for name, weight, rest in (("encoder_model", "a", "Relu"), ("decoder_model", "b", "Neg")):
        nodes = [helper.make_node("MatMul", ["x", weight], ["m"]), helper.make_node(rest, ["m"], ["y"])]
        graph = helper.make_graph(nodes, name, [x], [y], [numpy_helper.from_array(values, weight)])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(made, tmp_path / f"{name}.onnx")
    stored = share_model(tmp_path, tmp_path / "shared").stored
    assert (stored["encoder_model"]["a"] == stored["decoder_model"]["b"]) is told


def test_the_same_name_goes_first() -> None:
    stored = assign({"one": {"a": (b"1", 2), "b": (b"1", 2)}, "two": {"x": (b"1", 2), "b": (b"1", 2)}})
    assert stored["two"] == {"x": "one/a", "b": "one/b"}


def test_large_files_are_read_one_after_the_other(
    graphs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_KEPT", 0)
    read: list[str] = []
    prepare = reading.prepare

    def counted(source: object, *rest: object) -> object:
        read.append(source.name)  # type: ignore[attr-defined]
        return prepare(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "prepare", counted)
    share_model(graphs_folder, tmp_path)
    assert read == NAMES + NAMES[:2]  # all weights of the third are written already
    check_opened(tmp_path, graphs_folder)


def test_a_model_that_was_prepared_is_let_go(graphs_folder: Path) -> None:
    """After its last reader nothing keeps it: no matched rule, no cache."""
    model = load(graphs_folder / "decoder_model.onnx")
    _, graph = prepare_model(model)
    watched = weakref.ref(model.graph)
    del model, graph
    gc.collect()
    assert watched() is None


def test_one_file_in_a_folder_is_a_model_of_one_graph(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(model_path, tmp_path / "in" / "whatever.onnx")
    model = share_model(tmp_path / "in", tmp_path / "out")
    assert model.single
    assert model.digest == model.blueprint.digest
    assert (tmp_path / "out" / "skeleton.onnx").is_file()
    assert not (tmp_path / "out" / "model.json").exists()


def test_another_layout_takes_the_place_of_the_first(
    model_path: Path, graphs_folder: Path, tmp_path: Path
) -> None:
    for source in (model_path, graphs_folder, model_path):
        made = share_model(source, tmp_path, replace=True)
        assert SharedModel.read(tmp_path).digest == made.digest
        assert len(load_weights(tmp_path, 2)) == len(made.graphs)


def test_a_menu_is_read_as_it_was_made(shared: Path, model_dir: Path) -> None:
    for folder in (shared, model_dir):
        model = SharedModel.read(folder)
        again = SharedModel.from_menu(model.menu())
        assert (again.digest, again.stored) == (model.digest, model.stored)
        assert [g.digest for g in again.graphs.values()] == [g.digest for g in model.graphs.values()]


@pytest.mark.parametrize("name", ["../encoder_model", "a/b", "", ".hidden", "x" * 200])
def test_a_menu_names_no_other_folders(name: str, shared: Path, tmp_path: Path) -> None:
    index, *files = SharedModel.read(shared).menu()
    changed = json.loads(index)
    changed["graphs"] = {name if n == NAMES[0] else n: entry for n, entry in changed["graphs"].items()}
    with pytest.raises(PlanError, match="sent no model"):
        SharedModel.from_menu([json.dumps(changed).encode(), *files])


@pytest.mark.parametrize("keep", [0, 1, 3, 6])
def test_a_menu_that_is_cut_short(keep: int, shared: Path) -> None:
    with pytest.raises(PlanError):
        SharedModel.from_menu(SharedModel.read(shared).menu()[:keep])


def test_the_digest_covers_what_is_in_common(shared: Path) -> None:
    model = SharedModel.read(shared)
    stored = {graph: dict(names) for graph, names in model.stored.items()}
    stored["decoder_with_past_model"]["bias"] = "decoder_with_past_model/bias"
    assert SharedModel(model.graphs, stored).digest != model.digest
    fewer = {name: model.graphs[name] for name in NAMES[:2]}
    assert SharedModel(fewer, model.stored).digest != model.digest


@pytest.mark.parametrize("damage", ["noise", "alias", "version", "graph", "weights", "nothing"])
def test_a_damaged_index_is_refused(damage: str, shared: Path, model_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared, tmp_path / "copy"))
    index = json.loads((folder / "model.json").read_text())
    if damage == "alias":
        index["graphs"][NAMES[2]]["weights"]["lm_head"] = "decoder_model/cross"
    elif damage == "version":
        index["version"] = "0.0.1"
    elif damage == "weights":
        del index["graphs"][NAMES[2]]["weights"]["lm_head"]
    elif damage == "nothing":
        index["graphs"] = {}
    elif damage == "graph":
        shutil.copy(model_dir / "skeleton.onnx", folder / NAMES[0])
        shutil.copy(model_dir / "policy.json", folder / NAMES[0])
    (folder / "model.json").write_text("{" if damage == "noise" else json.dumps(index))
    with pytest.raises(PlanError) as caught:
        SharedModel.read(folder)
    assert caught.value.hint


def test_a_file_of_another_sharing_is_refused(shared: Path, graphs_folder: Path, tmp_path: Path) -> None:
    fewer = Path(shutil.copytree(graphs_folder, tmp_path / "fewer"))
    (fewer / "decoder_with_past_model.onnx").unlink()
    share_model(fewer, tmp_path / "shared")
    with pytest.raises(PlanError, match="another model"):
        load_weights(tmp_path / "shared", 1, SharedModel.read(shared))


def test_all_that_is_refused_is_named_with_its_graph(graphs_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(graphs_folder, tmp_path / "graphs"))
    for name in NAMES[1:]:
        model = onnx.load(folder / f"{name}.onnx")
        turned = [helper.make_node("Mine", ["present"], ["odd"], name=f"odd_{name}", domain="my.operators")]
        model.graph.node.extend(turned)
        model.graph.output.append(onnx.ValueInfoProto(name="odd", type=model.graph.output[0].type))
        model.opset_import.append(helper.make_opsetid("my.operators", 1))
        onnx.save(model, folder / f"{name}.onnx")
    with pytest.raises(UnsupportedModelError) as caught:
        share_model(folder, tmp_path / "shared")
    for name in NAMES[1:]:
        assert f"{name}: 1 node" in caught.value.message
        assert f"odd_{name}" in caught.value.message
    assert "encoder_model" not in caught.value.message
    assert not (tmp_path / "shared").exists()


def test_a_pattern_must_mean_something_in_one_graph(graphs_folder: Path, tmp_path: Path) -> None:
    model = share_model(graphs_folder, tmp_path / "shared", public=["kernel"], public_inputs=["past"])
    assert "kernel" not in model.graphs["encoder_model"].weights
    assert model.graphs["decoder_with_past_model"].public_inputs[0] == "past"
    with pytest.raises(ConfigError, match="'nowhere' matches nothing in any of encoder_model, decoder_mo"):
        share_model(graphs_folder, tmp_path / "none", public_inputs=["input_ids", "nowhere"])
    assert not (tmp_path / "none").exists()


def test_graphs_that_only_their_weights_tell_apart(graphs_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "graphs"
    folder.mkdir()
    for name in NAMES[:2]:
        shutil.copy(graphs_folder / "decoder_model.onnx", folder / f"{name}.onnx")
    twice = share_model(folder, tmp_path / "twice")
    assert len(twice.arrays) == 4
    model = onnx.load(folder / "encoder_model.onnx")
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "lm_head")
    head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), "lm_head"))
    onnx.save(model, folder / "encoder_model.onnx")
    with pytest.raises(ModelError, match="encoder_model and decoder_model are the same graph"):
        share_model(folder, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ONNX file"):
        share_model(tmp_path, tmp_path / "shared")
