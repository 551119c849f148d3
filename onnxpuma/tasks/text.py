"""Texts as a task takes them, and their tokens, checked before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.errors import InputError, TooLongError


def checked(text: Any) -> str:
    """The text; InputError if it is not a str, is blank, or cannot be encoded in UTF-8."""
    if not isinstance(text, str):
        raise InputError(f"expected a text, got {type(text).__name__}", "pass a str, or a list of them")
    if not text.strip():
        raise InputError("the text is empty", "pass one with at least a word")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text has half a character (a lone surrogate) at index {error.start}",
            "decode it again as UTF-8",
        ) from error
    return text


def encoded(
    tokenizer: Any, text: Any, most: int | None, truncation: bool = False, pair: Any = None
) -> dict[str, np.ndarray]:
    """The tokenizer's output for a text, or for a pair: int64 (1, tokens) by name, `input_ids` among them.

    most: positions of the model. Raises InputError for a text with more tokens, unless `truncation` cuts it.
    """
    texts = [checked(text)] if pair is None else [checked(text), checked(pair)]
    # Without `truncation`, the length is checked below: an error in place of the tokenizer's warning.
    options: dict[str, Any] = {"truncation": True, "max_length": most} if truncation and most else {}
    made = tokenizer(*texts, verbose=False, **options)
    arrays = {name: np.array([ids], np.int64) for name, ids in made.items()}
    check_length(arrays["input_ids"].shape[1], most)
    return arrays


def check_length(tokens: int, most: int | None) -> None:
    """Raise InputError unless the model can take a text of this many tokens."""
    if tokens == 0:
        raise InputError("the tokenizer makes no token of the text", "pass another text")
    if most is not None and tokens > most:
        raise TooLongError(
            f"the text has {tokens} tokens, the model has {most} positions",
            "shorten it, or have it cut: truncation=True, where the task has this option",
        )
