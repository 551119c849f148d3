"""tools/export.py writes valid, dynamic files that equal PyTorch and contain nothing about this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import export  # noqa: E402
from exporting import ExportError, architectures, onnx_file, tracing  # noqa: E402
from exporting.tasks import TASKS  # noqa: E402

ARCHITECTURES = {
    "bert-base-uncased": "feature-extraction",
    "roberta-base": "text-classification",
    "distilbert-base-uncased": "question-answering",
    "gpt2": "text-generation",
    "vit-base-patch16-224": "image-classification",
}
TORCHSCRIPT = ["--exporter", "torchscript"]  # ten times as fast, for tests of either exporter
# Fields that Transformers accepts for every model, or takes from a composite's parts, without listing them.
COMPUTED = {
    "num_labels", "rope_theta", "encoder", "decoder", "is_decoder", "add_cross_attention",
    "decoder_start_token_id", "pad_token_id", "eos_token_id",
}  # fmt: skip


def run(folder: Path, *options: str) -> onnx.ModelProto:
    assert export.main(["--out", str(folder), "--tiny", *options]) == 0
    return onnx.load(folder / "model.onnx")


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(*item, marks=[] if item[0].startswith("vit") else pytest.mark.slow)
        for item in ARCHITECTURES.items()
    ],
)
def test_dynamo_keeps_attention_and_normalisation_whole(tmp_path: Path, name: str, task: str) -> None:
    model = run(tmp_path, "--model", name, "--task", task)
    assert model.opset_import[0].version == 23
    assert {"Attention", "LayerNormalization"} <= operators(model)
    assert "Softmax" not in operators(model)
    assert [output.name for output in model.graph.output] == list(TASKS[task].outputs)
    axes = [[axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in model.graph.input]
    assert all(names[0] == "batch" and names[1] in ("sequence", "") for names in axes)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *ARCHITECTURES.items(),
        ("all-mpnet-base-v2", "fill-mask"),
    ],
)
def test_torchscript_writes_opset_17(tmp_path: Path, name: str, task: str) -> None:
    model = run(tmp_path, "--model", name, "--task", task, *TORCHSCRIPT)
    assert model.opset_import[0].version == 17
    assert "Softmax" in operators(model)


def test_torchscript_writes_what_dynamo_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("an operator is missing")

    monkeypatch.setattr(tracing, "_dynamo", fails)
    options = ["--model", "distilbert-base-uncased", "--task", "feature-extraction"]
    assert run(tmp_path, *options).opset_import[0].version == 17
    said = capsys.readouterr().out
    assert "not written by dynamo: dynamo cannot trace this model: an operator is missing" in said
    for chosen in (["--exporter", "dynamo"], ["--opset", "20"]):
        assert export.main(["--out", str(tmp_path), "--tiny", *options, *chosen]) == 1


def test_file_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    model = run(tmp_path, "--model", "bert-base-uncased", "--task", "feature-extraction")
    data = (tmp_path / "model.onnx").read_bytes()
    for place in (str(tmp_path), str(Path(export.__file__).parent), "site-packages", ".py"):
        assert place.encode() not in data
    assert not model.metadata_props
    config = (tmp_path / "config.json").read_text()
    assert json.loads(config)["model_type"] == "bert"
    assert str(tmp_path) not in config
    assert any(node.name.startswith("encoder.layer.1.attention") for node in model.graph.node)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    options = ["--model", "distilbert-base-uncased", "--task", "text-classification", *TORCHSCRIPT]
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    run(first, *options, "--seed", "3")
    run(second, *options, "--seed", "3")
    run(other, *options, "--seed", "4")
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()
    assert (first / "model.onnx").read_bytes() != (other / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", ["roberta-base", "all-mpnet-base-v2", "gpt2", "SmolLM2-135M"])
def test_ids_are_only_looked_up(tmp_path: Path, name: str) -> None:
    task = "text-generation" if name in ("gpt2", "SmolLM2-135M") else "feature-extraction"
    model = run(tmp_path, "--model", name, "--task", task, *TORCHSCRIPT)
    readers = {node.op_type for node in model.graph.node if "input_ids" in node.input}
    assert readers <= {"Gather", "Shape", "Reshape"}


@pytest.mark.parametrize("name", ["gpt2", "SmolLM2-135M"])
def test_classifier_on_a_decoder_reads_the_last_word(tmp_path: Path, name: str) -> None:
    model = run(tmp_path, "--model", name, "--task", "text-classification", *TORCHSCRIPT)
    readers = {node.op_type for node in model.graph.node if "input_ids" in node.input}
    assert readers <= {"Gather", "Shape", "Reshape"}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    ids, mask = np.array([[7, 8, 9, 10, 0]]), np.array([[1, 1, 1, 1, 0]])
    (padded,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    (short,) = session.run(None, {"input_ids": ids[:, :4], "attention_mask": mask[:, :4]})
    np.testing.assert_allclose(padded, short, atol=1e-6)
    (other,) = session.run(None, {"input_ids": ids[:, :3], "attention_mask": mask[:, :3]})
    assert np.abs(other - short).max() > 1e-4


def test_encoder_of_an_encoder_decoder_gives_its_features(tmp_path: Path) -> None:
    model = run(tmp_path, "--model", "t5-small", "--task", "feature-extraction", *TORCHSCRIPT)
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in model.graph.output] == ["last_hidden_state"]


def test_picture_encoder_of_a_pair(tmp_path: Path) -> None:
    model = run(
        tmp_path, "--model", "clip-vit-base-patch32", "--task", "image-feature-extraction", *TORCHSCRIPT
    )
    assert [value.name for value in model.graph.input] == ["pixel_values"]
    assert [value.name for value in model.graph.output] == ["last_hidden_state", "image_embeds"]


def test_roberta_positions_do_not_depend_on_ids(tmp_path: Path) -> None:
    model = run(tmp_path, "--model", "roberta-base", "--task", "feature-extraction")
    readers = [node.op_type for node in model.graph.node if "input_ids" in node.input]
    assert sorted(set(readers)) == ["Gather", "Shape"]
    assert {"Equal", "Not", "GatherElements"}.isdisjoint(operators(model))


def test_sentence_embedding_is_the_masked_mean(tmp_path: Path) -> None:
    options = ["--model", "all-MiniLM-L6-v2", *TORCHSCRIPT]
    run(tmp_path / "mean", *options, "--task", "sentence-similarity")
    run(tmp_path / "all", *options, "--task", "feature-extraction")
    ids = np.array([[7, 8, 9, 10], [11, 12, 0, 0]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (mean,) = onnxruntime.InferenceSession(tmp_path / "mean/model.onnx").run(None, feed)
    hidden = onnxruntime.InferenceSession(tmp_path / "all/model.onnx").run(["last_hidden_state"], feed)[0]
    np.testing.assert_allclose(mean[0], hidden[0].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(mean[1], hidden[1, :2].mean(axis=0), atol=1e-5)


def test_trained_folder_keeps_its_weights_and_tokenizer(tmp_path: Path) -> None:
    config = architectures.random_config("bert-base-uncased", tiny=True)
    trained = transformers.BertForSequenceClassification(config)
    trained.save_pretrained(tmp_path / "trained")
    (tmp_path / "trained/vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    )
    source, out = str(tmp_path / "trained"), str(tmp_path / "out")
    options = ["--model", source, "--task", "text-classification", *TORCHSCRIPT]
    assert export.main([*options, "--out", out]) == 0
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in _initializers(tmp_path / "out")}
    expected = trained.bert.embeddings.word_embeddings.weight.detach().numpy()
    assert any(
        array.shape == expected.shape and np.array_equal(array, expected) for array in weights.values()
    )
    assert (tmp_path / "out/tokenizer.json").is_file()


def test_large_weights_go_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "INLINE_LIMIT", 1000)
    run(tmp_path, "--model", "gpt2", "--task", "text-generation", *TORCHSCRIPT)
    assert (tmp_path / "model.onnx").stat().st_size < 100_000 < (tmp_path / "model.onnx.data").stat().st_size


@pytest.mark.parametrize("name", architectures.CATALOGUE["named"])
def test_catalogue_describes_real_architectures(name: str) -> None:
    full, tiny = (architectures.random_config(name, tiny=tiny) for tiny in (False, True))
    fields = architectures.CATALOGUE["named"][name]
    inside = [field for field, value in fields.items() if isinstance(value, dict) and "model_type" in value]
    pairs = [(getattr(full, field), getattr(tiny, field)) for field in inside] or [(full, tiny)]
    for large, small in pairs:
        assert large.hidden_size >= 384
        assert large.num_hidden_layers >= 4
        assert small.hidden_size in (48, 64)
        assert small.num_hidden_layers == 2
    for described in [fields, *(fields[field] for field in inside)]:
        unknown = set(described) - set(transformers.AutoConfig.for_model(described["model_type"]).to_dict())
        assert unknown <= COMPUTED


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (["--model", "gpt2", "--task", "juggling"], "no task 'juggling'", "text-generation"),
        (["--model", "gpt2", "--task", "image-classification"], "GPT2Config", "choose a --task"),
        (["--model", "gpt2", "--task", "text-generation", "--opset", "24"], "18 to 23", "omit --opset"),
        (["--model", "gpt2", "--task", "text-generation", "--sequence", "2"], "at least 4", "--sequence"),
    ],
)
def test_refusals_carry_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str, hint: str
) -> None:
    assert export.main([*options, "--tiny", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert hint in printed.partition("hint:")[2]


def test_random_weights_need_no_hub_by_either_name() -> None:
    names = architectures.CATALOGUE["hub_names"]
    assert set(names) == set(architectures.CATALOGUE["named"])
    for known, repository in names.items():
        config = architectures.random_config(known, tiny=False)
        assert architectures.random_config(repository, tiny=False).to_dict() == config.to_dict()


def test_unreachable_hub_names_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nothing here"
    assert export.main(["--model", str(missing), "--task", "fill-mask", "--out", str(tmp_path / "out")]) == 1
    assert "--random-init" in capsys.readouterr().err


def test_missing_packages_name_the_extra() -> None:
    with pytest.raises(ExportError) as raised:
        export.require("torch", "no_such_package")
    assert "no_such_package not installed" in str(raised.value)
    assert raised.value.hint == "pip install 'onnxpuma[export]'"


def test_check_refuses_a_file_that_computes_something_else(tmp_path: Path) -> None:
    config = architectures.random_config("vit-base-patch16-224", tiny=True)
    run(
        tmp_path,
        "--model",
        "vit-base-patch16-224",
        "--task",
        "image-classification",
        "--seed",
        "1",
        *TORCHSCRIPT,
    )
    another = transformers.ViTForImageClassification(config).eval()

    class Logits(torch.nn.Module):
        def forward(self, pixels: object) -> object:
            return another(pixels).logits

    with pytest.raises(ExportError, match="disagree about 'logits'"):
        onnx_file.check(tmp_path / "model.onnx", Logits(), ["pixel_values"], [(torch.randn(1, 3, 32, 32),)])


def _initializers(folder: Path) -> list[onnx.TensorProto]:
    return list(onnx.load(folder / "model.onnx").graph.initializer)
