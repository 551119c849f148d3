"""Texts as a task takes them, and their tokens, checked before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.errors import InputError


def checked(text: Any) -> str:
    """The text; InputError for anything else, an empty text, or one that cannot be encoded in UTF-8."""
    if not isinstance(text, str):
        raise InputError(f"a {type(text).__name__} is not a text", "give a str, or a list of them")
    if not text.strip():
        raise InputError("the text is empty", "give one with a word in it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text contains half a letter at place {error.start}", "read it again as UTF-8"
        ) from error
    return text


def encoded(
    tokenizer: Any, text: Any, most: int | None, truncation: bool = False, pair: Any = None
) -> dict[str, np.ndarray]:
    """The tokens of a text, or of a pair: int64 (1, tokens) by name, `input_ids` above all.

    most: positions of the model. Raises InputError for a text with more tokens, unless `truncation` cuts it.
    """
    texts = [checked(text)] if pair is None else [checked(text), checked(pair)]
    # Without `truncation` the length is checked below, as an error instead of the tokenizer's warning.
    options: dict[str, Any] = {"truncation": True, "max_length": most} if truncation and most else {}
    made = tokenizer(*texts, verbose=False, **options)
    arrays = {name: np.array([ids], np.int64) for name, ids in made.items()}
    check_length(arrays["input_ids"].shape[1], most)
    return arrays


def check_length(tokens: int, most: int | None) -> None:
    """Raise InputError unless the model can take a text of so many tokens."""
    if tokens == 0:
        raise InputError("the text has no tokens", "give another text")
    if most is not None and tokens > most:
        raise InputError(
            f"the text has {tokens} tokens, the model has {most} positions",
            "shorten it, or cut it: truncation=True where the task offers it",
        )
