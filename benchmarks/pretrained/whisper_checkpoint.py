"""OpenAI's checkpoint of Whisper in Transformers' layout: other names, same numbers; its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

END, START, FIRST_LANGUAGE, LANGUAGES = 50256, 50257, 50258, 99
AFTER_LANGUAGES = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
NO_TIMESTAMPS = FIRST_LANGUAGE + LANGUAGES + len(AFTER_LANGUAGES) - 1
TIMESTAMPS = 1501
BLANK = 220  # a space, which must not be the first token

# In this order: a replacement may apply to the result of an earlier one.
RENAMES = (
    ("encoder.ln_post.", "encoder.layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
    ("blocks", "layers"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("mlp_ln", "final_layer_norm"),
    ("cross_attn_ln", "encoder_attn_layer_norm"),
    ("cross_attn", "encoder_attn"),
    ("attn_ln", "self_attn_layer_norm"),
    (".attn.", ".self_attn."),
    (".query", ".q_proj"),
    (".key", ".k_proj"),
    (".value", ".v_proj"),
    (".out.", ".out_proj."),
    ("positional_embedding", "embed_positions.weight"),
    ("token_embedding", "embed_tokens"),
)


def renamed(name: str) -> str:
    """Transformers' name for this weight."""
    for old, new in RENAMES:
        name = name.replace(old, new)
    return f"model.{name}"


def convert(checkpoint: Path, vocabulary: Path, folder: Path) -> None:
    """Write config.json, weights, feature extractor and tokenizer of an English-only model to `folder`.

    vocabulary: the folder with GPT-2's encoder.json and vocab.bpe. Needs PyTorch.
    """
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor
    from transformers import WhisperForConditionalGeneration as Whisper

    held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    sizes = held["dims"]
    ends = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "decoder_start_token_id": START}
    config = WhisperConfig(
        vocab_size=sizes["n_vocab"],
        num_mel_bins=sizes["n_mels"],
        d_model=sizes["n_text_state"],
        encoder_layers=sizes["n_audio_layer"],
        decoder_layers=sizes["n_text_layer"],
        encoder_attention_heads=sizes["n_audio_head"],
        decoder_attention_heads=sizes["n_text_head"],
        encoder_ffn_dim=4 * sizes["n_audio_state"],
        decoder_ffn_dim=4 * sizes["n_text_state"],
        max_source_positions=sizes["n_audio_ctx"],
        max_target_positions=sizes["n_text_ctx"],
        **ends,
    )
    model = Whisper(config)
    weights = {renamed(name): tensor.float() for name, tensor in held["model_state_dict"].items()}
    model.load_state_dict(weights | {"proj_out.weight": weights["model.decoder.embed_tokens.weight"]})
    model.tie_weights()
    model.generation_config = GenerationConfig(
        **ends,
        begin_suppress_tokens=[BLANK, END],
        no_timestamps_token_id=NO_TIMESTAMPS,
        is_multilingual=False,
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=sizes["n_mels"]).save_pretrained(folder)
    tokenizer(vocabulary).save_pretrained(folder)


def tokenizer(vocabulary: Path) -> Any:
    """GPT-2's tokens, and after them Whisper's own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bpe = models.BPE.from_file(str(vocabulary / "encoder.json"), str(vocabulary / "vocab.bpe"))
    made = Tokenizer(bpe)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    own = ["endoftext", "startoftranscript", *(f"language{i}" for i in range(LANGUAGES)), *AFTER_LANGUAGES]
    own += [f"{0.02 * step:.2f}" for step in range(TIMESTAMPS)]
    made.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in own])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
