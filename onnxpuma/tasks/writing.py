"""Greedy writing, one token at a time, and its text as it becomes readable."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from onnxpuma.tasks.decoder import Decoder, Prediction
from onnxpuma.tasks.rules import Rules


def write(decoder: Decoder, prompt: Sequence[int], rules: Rules) -> Generator[Prediction]:
    """The tokens that follow `prompt`, the one that ends the text included; closes the decoder afterwards.

    Each token is one run of the model. The client, who sees the tokens, decides here when to stop: the
    servers learn how many there were, or with `fixed_length` not even that.
    """
    try:
        new, ended = list(prompt), False
        for place in range(rules.most):
            forced = rules.forced_end if place == rules.most - 1 else None
            if forced is not None and not rules.fixed_length:
                yield Prediction(forced)  # known without a run
                return
            found = decoder.read(new, rules.suppressed_at(place))
            if forced is not None:
                found = Prediction(forced, found.logits)
            if not ended:
                yield found
            ended = ended or found.token in rules.ends
            if ended and not rules.fixed_length:
                return
            new = [found.token]
    finally:
        decoder.close()


class Spelling:
    """Turns tokens into text piece by piece; the pieces add up to the text of all tokens.

    after: preceding tokens, which are not part of the text but may affect how it begins. A character of
    several bytes is held back until all of its tokens are there.
    """

    def __init__(self, tokenizer: Any, after: Sequence[int] = (), strip: bool = False) -> None:
        self._tokenizer = tokenizer
        self._before = list(after)
        self._start = len(self._decode([]))
        self._strip = strip
        self._ids: list[int] = []
        self._spelled = ""

    def add(self, token: int) -> str:
        """The text that this token makes readable."""
        self._ids.append(token)
        text = self._text()
        whole = text.rstrip("\ufffd")
        if not whole.startswith(self._spelled) or (self._strip and not whole.strip()):
            return ""
        piece = whole[len(self._spelled) :]
        self._spelled = whole
        return piece

    def end(self) -> str:
        """The rest of the text, broken characters included."""
        text = self._text()
        piece = text[len(self._spelled) :] if text.startswith(self._spelled) else ""
        self._spelled += piece
        return piece

    def _text(self) -> str:
        text = self._decode(self._ids)[self._start :]
        return text.lstrip() if self._strip else text

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode([*self._before, *ids], skip_special_tokens=True))
