"""A LLaMA in a GGUF file as a checkpoint of float16: config.json, safetensors files and the tokenizer.

One tensor at a time is read and dequantised, so memory does not grow with the model; Transformers' own reader
holds all of them in single precision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_SHARD = 400_000_000  # bytes
INDEX = "model.safetensors.index.json"
OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORMAL, BYTE = 1, 6  # kinds of a token
SPACE = "▁"


def convert(checkpoint: Path, folder: Path) -> None:
    """Write the checkpoint to `folder`, config.json last. Needs gguf, safetensors and Transformers.

    Raises KeyError for a tensor or a fact that a LLaMA does not have, or that is missing.
    """
    from gguf import GGUFReader, dequantize
    from transformers import GenerationConfig, LlamaConfig

    reader = GGUFReader(checkpoint)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    shape = {name.removeprefix("llama."): fact for name, fact in facts.items() if name.startswith("llama.")}
    heads = int(shape["attention.head_count"])
    grouped = int(shape["attention.head_count_kv"])
    paired = {"attn_q": heads, "attn_k": grouped}

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for tensor in reader.tensors:
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
            count = paired.get(tensor.name.split(".")[-2])
            yield renamed(tensor.name), values if count is None else halved(values, count)

    folder.mkdir(parents=True, exist_ok=True)
    write_shards(tensors(), folder)
    tokenizer(facts).save_pretrained(folder)
    ends = {
        "bos_token_id": int(facts["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(facts["tokenizer.ggml.eos_token_id"]),
    }
    GenerationConfig(**ends).save_pretrained(folder)
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(facts["tokenizer.ggml.tokens"]),
        hidden_size=int(shape["embedding_length"]),
        intermediate_size=int(shape["feed_forward_length"]),
        num_hidden_layers=int(shape["block_count"]),
        num_attention_heads=heads,
        num_key_value_heads=grouped,
        max_position_embeddings=int(shape["context_length"]),
        rms_norm_eps=float(shape["attention.layer_norm_rms_epsilon"]),
        rope_parameters={"rope_type": "default", "rope_theta": float(shape["rope.freq_base"])},
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        dtype="float16",
        **ends,
    ).save_pretrained(folder)


def renamed(name: str) -> str:
    """Transformers' name for this weight."""
    if not name.startswith("blk."):
        return f"{OUTER[name.removesuffix('.weight')]}.weight"
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{OF_LAYER[kind]}.weight"


def halved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of each head as Transformers rotates them, the first half against the second; in a GGUF file
    the two of a pair follow each other."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def write_shards(tensors: Iterator[tuple[str, np.ndarray]], folder: Path) -> None:
    """Write the tensors, in files of up to LARGEST_SHARD bytes, and their index."""
    from safetensors.numpy import save_file

    places: dict[str, str] = {}
    held: dict[str, np.ndarray] = {}
    total = files = 0

    def flush() -> None:
        nonlocal files
        files += 1
        name = f"model-{files:05d}.safetensors"
        save_file(held, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(held, name))
        held.clear()

    for name, values in tensors:
        if held and sum(each.nbytes for each in held.values()) + values.nbytes > LARGEST_SHARD:
            flush()
        held[name] = values
        total += values.nbytes
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def tokenizer(facts: Mapping[str, Any]) -> Any:
    """SentencePiece's BPE, as Transformers has it for LLaMA; `facts` are the metadata of the file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens, scores = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.scores"]
    kinds = facts["tokenizer.ggml.token_type"]
    begin, end, unknown = (tokens[facts[f"tokenizer.ggml.{n}_token_id"]] for n in ("bos", "eos", "unknown"))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merged = merges(vocabulary, scores)
    made = Tokenizer(models.BPE(vocabulary, merged, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    made.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, vocabulary[begin])]
    )
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind not in (NORMAL, BYTE)]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=begin,
        eos_token=end,
        unk_token=unknown,
        chat_template=facts.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )


def merges(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The pairs that make a token, the best token first, as SentencePiece merges them."""
    found = [
        (-scores[number], vocabulary[token[:cut]], vocabulary[token[cut:]])
        for token, number in vocabulary.items()
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    names = list(vocabulary)
    return [(names[first], names[second]) for _, first, second in sorted(found)]
