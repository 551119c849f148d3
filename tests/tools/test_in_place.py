"""Exports that copy no weight: the file points into the shards, and computes what the model does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import export  # noqa: E402
from exporting import TraceError, architectures, causal, in_place, large, pieces, skeleton  # noqa: E402
from exporting.reading import Reading  # noqa: E402
from exporting.shards import INDEX, read_shards  # noqa: E402
from exporting.tasks import TASKS  # noqa: E402
from onnxpuma.graph.canonicalise import ROUNDED, canonicalise  # noqa: E402
from onnxpuma.graph.load import load  # noqa: E402
from onnxpuma.graph.model import to_graph  # noqa: E402
from onnxpuma.graph.reference import run_canonical, run_file  # noqa: E402

TASK = "text-generation-with-past"
RNG = np.random.default_rng(8)


def checkpoint(folder: Path, name: str, kind: str, **sizes: Any) -> Any:
    """A tiny model saved as the hub would hold it, in several shards; it is returned in single precision."""
    config = architectures.random_config(name, tiny=True)
    for field, value in sizes.items():
        setattr(config, field, value)
    torch.manual_seed(6)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, kind)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # a norm of ones would not be told from any other
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, max_shard_size="100kB")
    return model.float()


def run(folder: Path, out: Path, *options: str) -> int:
    return export.main(["--model", str(folder), "--task", TASK, "--out", str(out), *options])


def feed_of(path: Path, batch: int, new: int, past: int) -> dict[str, np.ndarray]:
    total = past + new
    feed = {
        "input_ids": RNG.integers(5, 500, (batch, new)),
        "attention_mask": np.ones((batch, total), np.int64),
        "position_ids": np.tile(np.arange(past, total), (batch, 1)),
    }
    for value in onnx.load(path, load_external_data=False).graph.input:
        if value.name.startswith("past"):
            heads, width = (value.type.tensor_type.shape.dim[axis].dim_value for axis in (1, 3))
            feed[value.name] = RNG.normal(size=(batch, heads, past, width)).astype(np.float32)
    return feed


def results(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def the_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A sharded float16 checkpoint with untied weights, exported into its own folder."""
    folder = tmp_path_factory.mktemp("halves")
    model = checkpoint(folder, "TinyLlama-1.1B", "float16")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len([name for name in before if name.endswith(".safetensors")]) > 1
    assert run(folder, folder, "--in-place") == 0
    assert {path.name for path in folder.iterdir()} == {*before, "model.onnx"}
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    return folder, model


def test_results_are_those_of_the_ordinary_export(halves: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = halves
    assert run(folder, tmp_path, "--exporter", "torchscript") == 0
    mine, ordinary = folder / "model.onnx", tmp_path / "model.onnx"
    for extents in ((1, 4, 0), (2, 1, 6), (3, 5, 2)):
        feed = feed_of(mine, *extents)
        the_same(results(mine, feed), results(ordinary, feed))
    for side in ("input", "output"):
        names = [
            [value.name for value in getattr(onnx.load(path, load_external_data=False).graph, side)]
            for path in (mine, ordinary)
        ]
        assert names[0] == names[1]


def test_no_weight_is_in_the_file(halves: tuple[Path, Any]) -> None:
    folder, _ = halves
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    inside = [t for t in graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    assert max(len(tensor.raw_data) for tensor in inside) <= 64
    assert len(graph.initializer) - len(inside) == len(read_shards(folder))
    assert str(folder).encode() not in (folder / "model.onnx").read_bytes()


def test_onnxpuma_reads_it_as_a_model_in_single_precision(halves: tuple[Path, Any]) -> None:
    folder, model = halves
    path = folder / "model.onnx"
    loaded = load(path)
    report = canonicalise(loaded)
    assert ROUNDED.isdisjoint(report.rules)
    assert not report.after.get("Cast", 0) > 2  # of the mask and the positions; no weight is one
    graph = to_graph(loaded)
    matrices = sorted(value.size for value in graph.initializers.values() if len(value.shape) == 2)
    assert matrices == sorted(each.numel() for each in model.parameters() if each.dim() == 2)
    feed = feed_of(path, 2, 3, 4)
    whole = results(path, feed)
    the_same(run_file(path, feed), whole)
    the_same(run_canonical(graph, feed), whole)


def test_pieces_compute_what_the_whole_does(
    halves: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = halves[0] / "model.onnx"
    opened = []
    real = pieces._session
    monkeypatch.setattr(pieces, "_session", lambda *given: opened.append(given[1]) or real(*given))
    feeds = [feed_of(path, 1, 4, 0), feed_of(path, 2, 1, 6)]
    for found, feed in zip(pieces.run_pieces(path, feeds, largest=30_000), feeds, strict=True):
        the_same(found, results(path, feed))
    assert len(opened) > 4
    assert sum(map(len, opened)) == len(onnx.load(path, load_external_data=False).graph.node)


def test_a_check_finds_a_weight_that_points_elsewhere(halves: tuple[Path, Any]) -> None:
    folder, _ = halves
    model, part, places = skeleton_of(folder)
    one, other = (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1))
    assert in_place.check(folder / "model.onnx", part, model, places, 0) < 1e-5
    swapped = {**places, one: places[other], other: places[one]}
    with pytest.raises(TraceError, match="disagree"):
        in_place.check(folder / "model.onnx", part, model, swapped, 0)


def skeleton_of(folder: Path) -> Any:
    model = skeleton.skeleton(transformers.AutoConfig.from_pretrained(folder), TASKS[TASK])
    with torch.device("meta"):
        (part,) = causal.causal(model)
    return model, part, in_place.places_of(model, read_shards(folder))


@pytest.mark.parametrize("name", ["SmolLM2-135M", "gpt2", "gemma-2b"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_pytorch_computes_on_the_shards_what_it_does_on_the_model(
    tmp_path: Path, name: str, kind: str
) -> None:
    model = checkpoint(tmp_path, name, kind)
    bare, _, places = skeleton_of(tmp_path)
    ids = torch.from_numpy(RNG.integers(5, 500, (2, 6)))
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        with Reading(bare, places):
            found = bare(input_ids=ids).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


def test_bfloat16_and_tied_weights(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "SmolLM2-135M", "bfloat16")
    assert run(tmp_path, tmp_path, "--in-place") == 0
    path = tmp_path / "model.onnx"
    canonical = load(path)
    report = canonicalise(canonical)
    assert ROUNDED.isdisjoint(report.rules)
    graph = to_graph(canonical)
    held = [value for value in graph.initializers.values() if value.size == 512 * 64]
    assert len(held) == 1  # the embedding, which is also the last layer
    feed = feed_of(path, 1, 4, 0)
    with torch.no_grad():
        wanted = model(input_ids=torch.from_numpy(feed["input_ids"])).logits.numpy()
    np.testing.assert_allclose(run_file(path, feed)["logits"], wanted, atol=1e-5)
    np.testing.assert_allclose(run_canonical(graph, feed)["logits"], wanted, atol=1e-5)


@pytest.mark.slow
def test_another_folder_gets_a_copy(halves: tuple[Path, Any], tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(halves[0], source, ignore=shutil.ignore_patterns("model.onnx"))
    shard = next(source.glob("*.safetensors"))
    os.link(shard, tmp_path / "another name")  # as a hub's cache may hold it
    assert run(source, out, "--in-place") == 0
    assert (out / shard.name).read_bytes() == shard.read_bytes()
    assert (out / "config.json").is_file()
    feed = feed_of(out / "model.onnx", 1, 3, 2)
    load(out / "model.onnx")
    the_same(results(out / "model.onnx", feed), results(halves[0] / "model.onnx", feed))


def spoil(kind: str, folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[1]
    index = json.loads((folder / INDEX).read_text())
    name = next(name for name, file in index["weight_map"].items() if file == shard.name)
    if kind == "missing shard":
        shard.unlink()
    elif kind == "cut short":
        os.truncate(shard, shard.stat().st_size - 2)
    elif kind == "not safetensors":
        shard.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    elif kind == "missing tensor":
        del index["weight_map"][name]
    elif kind == "moved tensor":
        index["weight_map"][name] = next(file for file in index["weight_map"].values() if file != shard.name)
    elif kind == "outside":
        index["weight_map"][name] = f"../{shard.name}"
    elif kind == "another shape":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 600}))
    elif kind == "link":
        os.link(shard, folder / "another name")
    if "tensor" in kind or kind == "outside":
        (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing shard", "lacks 1 of the"),
        ("cut short", "damaged or cut short"),
        ("not safetensors", "not a safetensors file"),
        ("missing tensor", "the checkpoint lacks the tensor"),
        ("moved tensor", "lacks the tensor"),
        ("outside", "not an index"),
        ("another shape", "has shape (512, 64), and by config.json (600, 64)"),
        ("link", "is a link"),
    ],
)
def test_a_spoiled_checkpoint_is_refused(
    kind: str, message: str, halves: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "spoiled"
    shutil.copytree(halves[0], folder, ignore=shutil.ignore_patterns("model.onnx"))
    spoil(kind, folder)
    assert run(folder, folder, "--in-place") == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "hint:" in printed
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "gpt2", "--task", TASK], "needs a local folder"),
        (["--model", "gpt2", "--tiny", "--task", "text-generation"], "decoders with a cache"),
        (["--model", "gpt2", "--tiny", "--task", TASK, "--exporter", "torchscript"], "dynamo"),
    ],
)
def test_what_cannot_go_in_place_says_so(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([*options, "--in-place", "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "expected"), [(large.LARGE, False), (1000, True)])
def test_the_size_decides(
    limit: int, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGE", limit)
    checkpoint(tmp_path, "gpt2", "float16")
    task = ["--task", TASK, "--out", str(tmp_path)]
    given = export.arguments().parse_args(["--model", str(tmp_path), *task])
    assert large.goes_in_place(given, TASKS[TASK]) == expected
    assert not large.goes_in_place(given, TASKS["text-generation"])
    drawn = export.arguments().parse_args(["--model", "gpt2", "--random-init", *task])
    assert large.goes_in_place(drawn, TASKS[TASK]) == expected


@pytest.mark.parametrize("name", ["Llama-2-7b", "meta-llama/Llama-2-7b-hf", "TinyLlama-1.1B", "Llama-3.2-1B"])
def test_full_size_random_weights_go_in_place(name: str, tmp_path: Path) -> None:
    options = ["--model", name, "--random-init", "--task", TASK, "--out", str(tmp_path)]
    assert large.goes_in_place(export.arguments().parse_args(options), TASKS[TASK])
