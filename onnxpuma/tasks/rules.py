"""The controls of greedy writing: how long, when to stop, which ids must not come out. All of them are
public."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.tasks.folder import ModelFolder

NEW_TOKENS = 256
"""The limit on tokens where neither the caller nor the model gives one; as in Transformers' pipelines."""

_GREEDY_ALREADY: Mapping[str, tuple[Any, ...]] = {
    "do_sample": (False, None),
    "num_beams": (1, None),
    "num_return_sequences": (1, None),
}
_OTHER_THAN_GREEDY = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "penalty_alpha", "repetition_penalty"),
    *("no_repeat_ngram_size", "length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty"),
)


@dataclass(frozen=True)
class WritingOptions:
    """The options of a text to be written."""

    max_new_tokens: int | None = None
    max_length: int | None = None  # counts the prompt
    min_new_tokens: int | None = None  # the text does not end earlier
    min_length: int | None = None  # counts the prompt
    fixed_length: bool = False  # run for exactly the limit: the servers do not learn how long the text is
    logits: bool = False  # open the logits as well
    return_tensors: bool = False  # return the ids instead of the text

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_length", "min_new_tokens", "min_length"):
            value, least = getattr(self, name), int(name.startswith("max"))
            if value is not None and (type(value) is not int or value < least):
                raise InputError(f"{name} is {value!r}", f"give a whole number, {least} or more")


@dataclass(frozen=True)
class Rules:
    """The rules for one text."""

    most: int  # tokens
    least: int = 0
    ends: frozenset[int] = frozenset()
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    forced_end: int | None = None  # the last token, where the model requires one
    fixed_length: bool = False

    def suppressed_at(self, place: int) -> np.ndarray:
        """Ids that must not come out as token `place`, counted from zero; int64 (ids,)."""
        ids = set(self.suppressed)
        if place == 0:
            ids |= set(self.suppressed_first)
        if place < self.least:
            ids |= self.ends
        return np.array(sorted(ids), np.int64)


def refuse_other_searches(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that greedy search satisfies; InputError for those that need another
    search."""
    left = {}
    for name, value in options.items():
        if name in _OTHER_THAN_GREEDY or (name in _GREEDY_ALREADY and value not in _GREEDY_ALREADY[name]):
            raise InputError(
                f"{name}={value!r} needs a search other than greedy",
                "the servers find the most likely token on shares, and open it alone: omit the option",
            )
        if name not in _GREEDY_ALREADY:
            left[name] = value
    return left


def rules(folder: ModelFolder, options: WritingOptions, prompt: int) -> Rules:
    """The rules for a text after `prompt` tokens of the decoder.

    From generation_config.json: eos_token_id, max_new_tokens or max_length, min_new_tokens or min_length,
    suppress_tokens, begin_suppress_tokens, bad_words_ids of one id, forced_eos_token_id. Raises InputError
    when the model's positions leave no room for a token.
    """
    return Rules(
        _most(folder, options, prompt),
        _least(folder, options, prompt),
        frozenset(_ends(folder)),
        tuple(_suppressed(folder)),
        _ids(folder.value("begin_suppress_tokens")),
        _one(folder.value("forced_eos_token_id")),
        options.fixed_length,
    )


def _most(folder: ModelFolder, options: WritingOptions, prompt: int) -> int:
    room = None if folder.positions is None else folder.positions - prompt
    if room is not None and room < 1:
        raise InputError(
            f"the prompt has {prompt} tokens, the model has {folder.positions} positions",
            "shorten it: at least one position must be left for the answer",
        )
    if options.max_new_tokens is not None:
        most = options.max_new_tokens
    elif options.max_length is not None:
        most = options.max_length - prompt
        if most < 1:
            raise InputError(
                f"max_length={options.max_length}, and the prompt has {prompt} tokens already",
                "give max_new_tokens instead, which does not count the prompt",
            )
    else:
        generation = folder.generation
        long = generation.get("max_new_tokens") or (generation.get("max_length") or 0) - prompt
        most = long if long >= 1 else NEW_TOKENS
    return most if room is None else min(most, room)


def _least(folder: ModelFolder, options: WritingOptions, prompt: int) -> int:
    if options.min_new_tokens is not None:
        return options.min_new_tokens
    if options.min_length is not None:
        return max(0, options.min_length - prompt)
    least = folder.generation.get("min_new_tokens")
    return int(least) if least else max(0, int(folder.generation.get("min_length") or 0) - prompt)


def _ends(folder: ModelFolder) -> tuple[int, ...]:
    if folder.kind == "blip":  # its captions end with another token than its eos_token_id
        found = folder.config.get("text_config", {}).get("sep_token_id")
        if found is not None:
            return _ids(found)
    return _ids(folder.value("eos_token_id"))


def _suppressed(folder: ModelFolder) -> list[int]:
    """Ids that never come out. Bad words of several ids are ignored: which of them is due would tell the
    servers part of the text."""
    words = folder.value("bad_words_ids") or []
    return [*_ids(folder.value("suppress_tokens")), *(word[0] for word in words if len(word) == 1)]


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(int(v) for v in value if v >= 0)


def _one(value: Any) -> int | None:
    found = _ids(value)
    return found[0] if found else None
