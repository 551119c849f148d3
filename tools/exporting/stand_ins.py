"""Stand-ins for a model with random weights: a tokenizer of bytes, processors for sounds and pictures.

All of them are made here from the configuration; nothing is downloaded.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

FIRST_BYTE = 5  # ids below it, and those that the configuration names, are special tokens
MARKS = ("pad", "bos", "eos", "sep")  # named as in configurations: pad_token_id, ...
WRITTEN = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "sep": "<sep>", "start": "<start>"}


def tokenizer(config: Any) -> Any | None:
    """A tokenizer of bytes: every text can be encoded and decoded. None for a model without words.

    The tokens that no text produces are pairs of letters, so that anything a model writes can be shown.
    """
    words = _of_words(config)
    size = getattr(words, "vocab_size", None)
    if size is None or size < FIRST_BYTE + 256:
        return None
    special = _special(config, words)
    taken = {token: mark for mark, token in reversed(special.items())}
    free = (token for token in range(size) if token >= FIRST_BYTE and token not in taken)
    written = {name: token for token, name in zip(free, _spellings(), strict=False)}
    written |= {_spelling(mark): token for token, mark in taken.items()}
    made = Tokenizer(models.BPE(vocab=written, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(_spelling(mark), special=True) for mark in taken.values()])
    single, pair = _frame(config, words, special)
    used = {part for part in (single + " " + pair).split() if part[0] not in "$:"}
    if used:
        tokens = [(name, written[name]) for name in sorted(name.partition(":")[0] for name in used)]
        made.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=list(dict.fromkeys(tokens))
        )
    names = {f"{mark}_token": _spelling(taken[special[mark]]) for mark in special if mark != "start"}
    names.setdefault("pad_token", names.get("eos_token", "<pad>"))
    segments = ["token_type_ids"] if getattr(config, "type_vocab_size", 0) > 1 else []
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=int(getattr(words, "max_position_embeddings", None) or 512),
        model_input_names=["input_ids", *segments, "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )


def preparer(config: Any) -> Any | None:
    """The feature extractor or image processor for the model's pictures or sounds; None for a model of
    text."""
    if config.model_type == "whisper":
        frames = 2 * config.max_source_positions
        seconds = max(1, frames // 100)
        hop = 16000 * seconds // frames
        return transformers.WhisperFeatureExtractor(config.num_mel_bins, hop_length=hop, chunk_length=seconds)
    seen = getattr(config, "vision_config", None) or getattr(config, "encoder", None) or config
    size = getattr(seen, "image_size", None)
    if size is None:
        return None
    square = {"height": size, "width": size}
    if config.model_type.startswith("clip"):
        return _of_pillow("CLIPImageProcessor")(size={"shortest_edge": size}, crop_size=square)
    return _of_pillow("BlipImageProcessor" if config.model_type == "blip" else "ViTImageProcessor")(
        size=square
    )


def _of_pillow(name: str) -> Any:
    """The image processor of that name that needs no torchvision: Transformers 5 appends Pil to its name."""
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


def _of_words(config: Any) -> Any:
    """The part of a configuration that has a vocabulary."""
    return getattr(config, "text_config", None) or getattr(config, "decoder", None) or config


def _special(config: Any, words: Any) -> dict[str, int]:
    """Mark -> id: the marks that the configuration names, and for encoders those that every encoder reads."""
    found = {}
    for mark in MARKS:
        token = getattr(config, f"{mark}_token_id", None)
        token = token if token is not None else getattr(words, f"{mark}_token_id", None)
        if isinstance(token, int) and 0 <= token < words.vocab_size:
            found[mark] = token
    start = getattr(config, "decoder_start_token_id", None)
    if start is not None and start not in found.values():
        found["start"] = start
    if _is_encoder(config):
        free = (token for token in range(FIRST_BYTE) if token not in found.values())
        found["cls"] = found.get("bos") if "bos" in found else next(free)
        found["sep"] = found.get("eos") if "eos" in found else next(free)
        found["mask"], found["unk"] = next(free), next(free)
    return found


def _spelling(mark: str) -> str:
    return WRITTEN.get(mark, f"[{mark.upper()}]")


def _is_encoder(config: Any) -> bool:
    """BERT and similar models, which read a whole text and write none."""
    return config.model_type in ("bert", "roberta", "distilbert", "mpnet")


def _frame(config: Any, words: Any, special: dict[str, int]) -> tuple[str, str]:
    """The templates that set one text, and a pair of texts, between special tokens, as the architecture's own
    do."""
    by_id = {token: _spelling(mark) for mark, token in reversed(special.items())}
    before = after = ""
    if _is_encoder(config):
        before, after = by_id[special["cls"]], by_id[special["sep"]]
    elif config.model_type in ("t5", "marian", "bart"):
        before, after = by_id[special["bos"]] if "bos" in special else "", by_id[special["eos"]]
    elif config.model_type in ("llama", "mistral", "gemma") and special.get("bos") != special.get("eos"):
        before = by_id[special["bos"]]
    single = f"{before} $A {after}".strip()
    segment = ":1" if getattr(config, "type_vocab_size", 0) > 1 else ""
    return single, f"{single} $B{segment} {f'{after}{segment}' if after else ''}".strip()


def _spellings() -> Iterator[str]:
    """The spelling of each id: 256 bytes as byte-level tokenizers write them, then aa, ab, ..., aaa, ..."""
    yield from sorted(pre_tokenizers.ByteLevel.alphabet())
    for length in itertools.count(2):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "".join(letters)
