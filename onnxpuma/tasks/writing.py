"""Writing a token at a time, or several guessed ones, and the text as it becomes readable."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from onnxpuma.tasks.decoder import Decoder, Prediction
from onnxpuma.tasks.guesses import Guesser
from onnxpuma.tasks.rules import Rules
from onnxpuma.tasks.sampling import Sampling, draw


def write(
    decoder: Decoder,
    prompt: Sequence[int],
    rules: Rules,
    guesser: Guesser | None = None,
    sampling: Sampling | None = None,
) -> Generator[Prediction]:
    """The tokens that follow `prompt`, the one that ends the text included; closes the decoder afterwards.

    Without `guesser` each token is one run of the model. The client, who sees the tokens, decides here when
    to stop: the servers learn how many there were, or with `fixed_length` not even that.

    guesser: guesses tokens, which the next run reads behind the last one; the model then tells what follows
    each of them, and all guesses up to the first wrong one are part of the text. The text is the same as
    without; its length is not fixed.

    sampling: how each token is drawn, without a guesser; by default it is the likeliest.
    """
    try:
        text, new, ended, place = list(prompt), list(prompt), False, 0
        while place < rules.most:
            forced = rules.forced_end if place == rules.most - 1 else None
            if forced is not None and not rules.fixed_length:
                yield Prediction(forced)  # known without a run
                return
            suppressed = rules.suppressed_at(place)
            guesses = _guesses(guesser, text, rules, place)
            if guesses:
                every = decoder.read_each([*new, *guesses], suppressed)
                found = every[: _right(guesses, every, rules, place) + 1]
                decoder.forget(len(text) + len(found) - 1)
            else:
                drawn = None
                if sampling is not None:
                    drawn = draw(sampling, prompt, text[len(prompt) :], decoder.vocabulary)
                found = [decoder.read(new, suppressed, drawn)]
            if forced is not None:
                found = [Prediction(forced, found[0].logits)]
            for one in found:
                if not ended:
                    yield one
                ended = ended or one.token in rules.ends
            if ended and not rules.fixed_length:
                return
            text += [one.token for one in found]
            new, place = [found[-1].token], place + len(found)
    finally:
        decoder.close()


def _guesses(guesser: Guesser | None, text: Sequence[int], rules: Rules, place: int) -> list[int]:
    """The guesses behind the text; none for the run that reads the prompt, nor where one token is left."""
    left = rules.most - place - (rules.forced_end is not None)
    return [] if guesser is None or place == 0 or left < 2 else guesser.guess(text, left - 1)


def _right(guesses: Sequence[int], found: Sequence[Prediction], rules: Rules, place: int) -> int:
    """How many guesses the model itself would have written, each after those before it.

    One run suppresses the same ids after every guess, so none counts behind which others are due.
    """
    due = list(rules.suppressed_at(place))
    for count, guess in enumerate(guesses):
        if found[count].token != guess or list(rules.suppressed_at(place + count + 1)) != due:
            return count
    return len(guesses)


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
