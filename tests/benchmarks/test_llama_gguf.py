"""A LLaMA in a GGUF file becomes a checkpoint: names, rows of rotated heads, shards, and the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretrained import llama_gguf
from pretrained.llama_gguf import halved, merges, renamed, tokenizer, write_shards

RNG = np.random.default_rng(11)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.7.attn_output.weight", "model.layers.7.self_attn.o_proj.weight"),
        ("blk.21.ffn_norm.weight", "model.layers.21.post_attention_layernorm.weight"),
    ],
)
def test_weights_get_their_new_names(old: str, new: str) -> None:
    assert renamed(old) == new


@pytest.mark.parametrize("name", ["rope_freqs.weight", "blk.0.attn_q_norm.weight"])
def test_a_weight_that_a_llama_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(KeyError):
        renamed(name)


def test_scores_of_halves_are_those_of_pairs() -> None:
    """Heads whose pairs are rotated as they follow each other, and the same heads in Transformers' order."""
    heads, width, size, words = 2, 8, 12, 5
    q, k = (RNG.normal(size=(heads * width, size)) for _ in range(2))
    x = RNG.normal(size=(words, size))
    angles = np.arange(words)[:, None] * 100.0 ** (-np.arange(0, width, 2) / width)  # (words, width / 2)
    turn = np.exp(1j * angles)[:, None]

    def of_pairs(weight: np.ndarray) -> np.ndarray:
        rows = (x @ weight.T).reshape(words, heads, width // 2, 2)
        return np.asarray((rows[..., 0] + 1j * rows[..., 1]) * turn)

    def of_halves(weight: np.ndarray) -> np.ndarray:
        rows = (x @ halved(weight, heads).T).reshape(words, heads, 2, width // 2)
        return np.asarray((rows[..., 0, :] + 1j * rows[..., 1, :]) * turn)

    scores = [np.einsum("qhd,khd->hqk", of(q), of(k).conj()).real for of in (of_pairs, of_halves)]
    assert np.allclose(*scores)
    assert not np.allclose(halved(q, heads), q)


def test_tensors_fill_files_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_file = pytest.importorskip("safetensors.numpy").load_file
    monkeypatch.setattr(llama_gguf, "LARGEST_SHARD", 1000)
    held = {f"w{n}": RNG.normal(size=(n, 10)).astype(np.float16) for n in (20, 25, 100, 1)}
    write_shards(iter(held.items()), tmp_path)
    index = json.loads((tmp_path / llama_gguf.INDEX).read_text())
    files = index["weight_map"]
    assert index["metadata"]["total_size"] == 2 * 10 * 146
    assert files["w20"] == files["w25"]
    assert len(set(files.values())) == 3
    for name, values in held.items():
        assert np.array_equal(load_file(tmp_path / files[name])[name], values)


def facts(tokens: list[str], scores: list[float]) -> dict[str, Any]:
    """The metadata of a tokenizer: three special tokens and the bytes come before these."""
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return {
        "tokenizer.ggml.tokens": [*first, *tokens],
        "tokenizer.ggml.scores": [*[0.0] * len(first), *scores],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(tokens)],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def test_the_best_token_is_merged_first() -> None:
    vocabulary = {token: number for number, token in enumerate(["a", "b", "c", "bc", "ab", "abc"])}
    assert merges(vocabulary, [-3, -4, -5, -1, -2, -2.5]) == [
        ("b", "c"),
        ("a", "b"),
        ("a", "bc"),
        ("ab", "c"),
    ]


def test_text_comes_back_from_its_tokens() -> None:
    pytest.importorskip("transformers")
    tokens = ["▁", "a", "b", "c", "bc", "ab", "▁a"]
    made = tokenizer(facts(tokens, [-9, -9, -9, -9, -1, -2, -3]))
    ids = made("abc é</s>")["input_ids"]
    assert made.convert_ids_to_tokens(ids) == ["<s>", "▁a", "bc", "▁", "<0xC3>", "<0xA9>", "</s>"]
    assert made.decode(ids, skip_special_tokens=True) == "abc é"
