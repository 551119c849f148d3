"""The rules of writing: its length, its end, the tokens it must not choose. All of them are public."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.errors import InputError, TooLongError
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.sampling import Sampling

# The most tokens to write if neither the caller nor the model sets a limit; as in Transformers' pipelines.
NEW_TOKENS = 256

_GREEDY_ALREADY: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1, None),
    "num_return_sequences": (1, None),
}
_OTHER_THAN_GREEDY = (
    *("typical_p", "penalty_alpha", "epsilon_cutoff", "eta_cutoff"),
    *("no_repeat_ngram_size", "length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty"),
)


@dataclass(frozen=True)
class WritingOptions:
    """A caller's options for writing a text."""

    max_new_tokens: int | None = None
    max_length: int | None = None  # the same, with the prompt counted
    min_new_tokens: int | None = None  # the text does not end before
    min_length: int | None = None  # the same, with the prompt counted
    # Run the model for the most tokens in any case, so that the servers do not learn how long the text is.
    fixed_length: bool = False
    logits: bool = False  # open the logits too
    return_tensors: bool = False  # return ids in place of text
    sampling: Sampling | None = None  # how to draw each token; None: the likeliest

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_length", "min_new_tokens", "min_length"):
            value, least = getattr(self, name), int(name.startswith("max"))
            if value is not None and (type(value) is not int or value < least):
                raise InputError(f"{name} is {value!r}", f"pass a whole number, {least} or more")


@dataclass(frozen=True)
class Rules:
    """The rules for one text."""

    most: int  # tokens to write at most
    least: int = 0  # tokens before the text may end
    ends: frozenset[int] = frozenset()  # tokens that end it
    suppressed: tuple[int, ...] = ()  # tokens that must not be chosen
    suppressed_first: tuple[int, ...] = ()  # nor these as the first token
    forced_end: int | None = None  # the last of the most tokens, if the model wants one
    fixed_length: bool = False

    def suppressed_at(self, place: int) -> np.ndarray:
        """Ids that must not be chosen as token `place`, counted from zero; int64 (ids,)."""
        ids = set(self.suppressed)
        if place == 0:
            ids |= set(self.suppressed_first)
        if place < self.least:
            ids |= self.ends
        return np.array(sorted(ids), np.int64)


def refuse_other_searches(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that greedy search satisfies; InputError if one asks for another search."""
    left = {}
    for name, value in options.items():
        if name in _OTHER_THAN_GREEDY or (name in _GREEDY_ALREADY and value not in _GREEDY_ALREADY[name]):
            raise InputError(
                f"{name}={value!r} asks for another search than greedy",
                "the servers find the likeliest token on shares and open that alone: omit this option",
            )
        if name not in _GREEDY_ALREADY:
            left[name] = value
    return left


def rules(folder: ModelFolder, options: WritingOptions, prompt: int) -> Rules:
    """The rules for a text that follows a decoder's prompt of `prompt` tokens.

    They read from generation_config.json: eos_token_id, max_new_tokens or max_length, min_new_tokens or
    min_length, suppress_tokens, begin_suppress_tokens, bad_words_ids of one id, forced_eos_token_id. Raises
    InputError when the model's positions leave no room for a token.
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
        raise TooLongError(
            f"the prompt has {prompt} tokens, the model has {folder.positions} positions",
            "shorten it: the answer needs at least one position",
        )
    if options.max_new_tokens is not None:
        most = options.max_new_tokens
    elif options.max_length is not None:
        most = options.max_length - prompt
        if most < 1:
            raise InputError(
                f"max_length={options.max_length}, but the prompt alone has {prompt} tokens",
                "pass max_new_tokens instead, which does not count the prompt",
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
    if folder.kind == "blip":  # its captions do not end with its eos_token_id
        found = folder.config.get("text_config", {}).get("sep_token_id")
        if found is not None:
            return _ids(found)
    return _ids(folder.value("eos_token_id"))


def _suppressed(folder: ModelFolder) -> list[int]:
    """Omits bad words of several ids: suppressing the id due next would tell the servers what was written."""
    words = folder.value("bad_words_ids") or []
    return [*_ids(folder.value("suppress_tokens")), *(word[0] for word in words if len(word) == 1)]


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(int(v) for v in value if v >= 0)


def _one(value: Any) -> int | None:
    found = _ids(value)
    return found[0] if found else None
