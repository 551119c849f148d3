"""Sources of weights: a GGUF file yields its model; an error names the library that reading it needs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import export  # noqa: E402
from exporting import architectures, checkpoints  # noqa: E402

TORCHSCRIPT = ["--exporter", "torchscript"]


def written_gguf(path: Path, model: Any) -> None:
    """A tiny LLaMA as llama.cpp would store it, in single precision; without a tokenizer."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        values, pieces = tensor.numpy(), name.split(".")
        if pieces[1] == "layers":
            part = parts[".".join(pieces[3:-1])]
            if part in heads:  # llama.cpp rotates neighbours; Transformers, the two halves of a head
                halves = values.reshape(heads[part], 2, -1, values.shape[1])
                values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
            writer.add_tensor(f"blk.{pieces[2]}.{part}.weight", values)
        else:
            plain = {"embed_tokens": "token_embd", "norm": "output_norm", "weight": "output"}
            writer.add_tensor(f"{plain[pieces[1]]}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_file_gives_the_model_it_holds(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(architectures.random_config("TinyLlama-1.1B", tiny=True)).eval()
    written_gguf(tmp_path / "tiny.gguf", model)
    options = ["--model", str(tmp_path / "tiny.gguf"), "--task", "text-generation", *TORCHSCRIPT]
    assert export.main([*options, "--out", str(tmp_path / "out")]) == 0
    ids = np.array([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits.numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert "gguf" not in (tmp_path / "out/config.json").read_text()


def test_gguf_names_the_packages_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        checkpoints.importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name)
    )
    options = ["--model", str(tmp_path / "model.gguf"), "--task", "text-generation"]
    assert export.main([*options, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert "needs gguf" in printed
    assert "pip install gguf" in printed.partition("hint:")[2]


def test_gguf_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", str(tmp_path / "none.gguf"), "--task", "text-generation", "--out", str(tmp_path)]
    assert export.main(options) == 1
    assert "there is no file" in capsys.readouterr().err


def test_window_of_a_model_holds_with_its_cache(tmp_path: Path) -> None:
    config = architectures.random_config("Mistral-7B-v0.3", tiny=True)
    config.sliding_window = 3
    config.save_pretrained(tmp_path / "source")
    logits = {}
    rng = np.random.default_rng(2)
    ids = rng.integers(5, 500, (1, 7))
    for task in ("text-generation", "text-generation-with-past"):
        options = ["--model", str(tmp_path / "source"), "--random-init", "--task", task, *TORCHSCRIPT]
        assert export.main([*options, "--out", str(tmp_path / task)]) == 0
    plain, cached = (
        onnxruntime.InferenceSession(tmp_path / task / "model.onnx")
        for task in ("text-generation", "text-generation-with-past")
    )
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    (logits["plain"],) = plain.run(None, feed)
    past = {v.name: np.zeros((1, 2, 0, 16), np.float32) for v in cached.get_inputs()[3:]}
    for start, stop in ((0, 5), (5, 6), (6, 7)):
        (logits["cached"], *present) = cached.run(
            None,
            {
                "input_ids": ids[:, start:stop],
                "attention_mask": np.ones((1, stop), np.int64),
                "position_ids": np.arange(start, stop)[None],
                **past,
            },
        )
        past = dict(zip(past, present, strict=True))
    np.testing.assert_allclose(logits["cached"][:, -1], logits["plain"][:, -1], atol=1e-5)
    wide = {"input_ids": np.where(np.arange(7) < 1, 77, ids), "attention_mask": np.ones_like(ids)}
    (other,) = plain.run(None, wide)  # two layers with windows of three see back four: not the first word
    np.testing.assert_allclose(other[:, -1], logits["plain"][:, -1], atol=1e-6)
    assert onnx.load(tmp_path / "text-generation/model.onnx").opset_import[0].version == 17


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "gpt2", "--task", "image-classification-with-past"], "no task"),
        (["--model", "bert-base-uncased", "--task", "translation"], "BertConfig"),
        (["--model", "vit-base-patch16-224", "--task", "text-generation-with-past"], "ViTConfig"),
    ],
)
def test_task_that_the_architecture_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert export.main([*options, "--tiny", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "hint:" in printed
