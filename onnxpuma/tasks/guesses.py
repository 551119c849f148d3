"""The next tokens that a client guesses on its own: from the text so far, or by a small model in the clear.

The model at the servers judges them, several in one run [Leviathan23]. A wrong guess changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.plain import PlainRunner

LONGEST = 4  # tokens in a row that are looked up in the text
TOKENS = 4  # to guess at once, if the caller names no number
MOST = 64


class Guesser(Protocol):
    """Guesses what follows one text that grows."""

    def guess(self, text: Sequence[int], most: int) -> list[int]:
        """Tokens that may follow `text`: always the same number, but not more than `most`. So the servers see
        nothing of how sure the guesser is."""
        ...


class LookUp:
    """Guesses that the text goes on as it did where its last tokens stood before [Saxena23].

    A summary repeats the names and phrases of its source, which are in the prompt.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def guess(self, text: Sequence[int], most: int) -> list[int]:
        known = list(text)
        wanted = len(known) + min(self._count, most)
        while len(known) < wanted:
            known += _continuation(known) or known[-1:]
        return known[len(text) : wanted]


class PublicModel:
    """Guesses what a small causal model would write, which runs in onnxruntime at the client.

    folder: as tools/export.py writes it. tokenizer: of the model at the servers. Raises ConfigError for a
    model whose tokenizer has other ids for the same tokens, ModelError for one that is not causal text
    generation, and the errors of `PlainRunner`.
    """

    def __init__(self, folder: str | Path, count: int, tokenizer: Any) -> None:
        home = ModelFolder(folder)
        words = home.tokenizer.get_vocab()
        if words != tokenizer.get_vocab():
            raise ConfigError(
                f"the model for drafts in {folder} has another vocabulary",
                "its tokens must have the same ids: take a smaller model of the same family",
            )
        self._known = frozenset(words.values())
        self._count, self._positions = count, home.positions
        self._runner = PlainRunner(folder)
        self._decoder = causal_decoder(self._runner)

    def guess(self, text: Sequence[int], most: int) -> list[int]:
        count = min(self._count, most)
        guesses: list[int] = []
        while len(guesses) < count and (self._positions is None or len(text) + count <= self._positions):
            token = self._next(text) if not guesses else self._decoder.read(guesses[-1:]).token
            if token not in self._known:  # its table may have rows that no token uses
                break
            guesses.append(token)
        return guesses + [text[-1]] * (count - len(guesses))

    def _next(self, text: Sequence[int]) -> int:
        """What follows the text; only what is new in it is read."""
        read = self._decoder.ids
        pairs = enumerate(zip(read, text[:-1], strict=False))
        same = next((place for place, (a, b) in pairs if a != b), min(len(read), len(text) - 1))
        if not same:
            self._decoder.close()
            self._decoder = causal_decoder(self._runner)
        self._decoder.forget(same)
        return self._decoder.read(text[same:]).token


def guesser_of(draft: Any, count: int | None, tokenizer: Any) -> Guesser | None:
    """The guesser that a caller's options ask for.

    draft: None or "none" for none, "prompt" to look up in the text, the folder of a small model, or an object
    with the method of Guesser. count: tokens at once; None for TOKENS. tokenizer: of the model at the
    servers. Raises InputError for an invalid count, and the errors of PublicModel.
    """
    if draft is None or draft == "none":
        if count is not None:
            raise InputError(
                "draft_tokens says how many tokens a draft has, and there is none",
                "add draft='prompt', or the folder of a small model",
            )
        return None
    if count is not None and (type(count) is not int or not 1 <= count <= MOST):
        raise InputError(f"draft_tokens is {count!r}", f"pass a whole number, 1 to {MOST}")
    if draft == "prompt":
        return LookUp(count or TOKENS)
    if isinstance(draft, (str, Path)):
        return PublicModel(draft, count or TOKENS, tokenizer)
    guesser: Guesser = draft
    return guesser


def _continuation(text: Sequence[int]) -> list[int]:
    """What follows the latest earlier place of the last tokens, as many of them as stand somewhere."""
    for length in range(min(LONGEST, len(text) - 1), 0, -1):
        end = list(text[-length:])
        for start in range(len(text) - length - 1, -1, -1):
            if list(text[start : start + length]) == end:
                return list(text[start + length :])
    return []
