"""A pipeline that writes: one or several passages for an input, their tokens, their text as it emerges."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.decoder import Decoder
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.guesses import Guesser
from onnxpuma.tasks.rules import WritingOptions, refuse_other_searches, rules
from onnxpuma.tasks.sampling import ASKED, sampled, unapplied
from onnxpuma.tasks.writing import Spelling, write

_WRITING = tuple(field.name for field in fields(WritingOptions))


@dataclass(frozen=True)
class Passage:
    """A text to be written."""

    length: int  # of its prompt
    begin: Callable[[], tuple[Decoder, Sequence[int]]]  # runs the encoder if there is one: decoder and prompt
    after: Sequence[int] = ()  # preceding tokens, which affect how the text is decoded
    guesser: Guesser | None = None  # guesses its next tokens


@dataclass(frozen=True)
class Piece:
    """One token, and the text that it makes readable; the last piece of a passage has no token."""

    text: str
    token: int | None = None
    logits: np.ndarray | None = None


class Writer(Pipeline):
    """Writes a text for each input."""

    key: ClassVar[str] = "generated"  # a result has its text under "<key>_text"
    strips: ClassVar[bool] = False  # whether to drop space before a passage, and put one between two
    known: ClassVar[frozenset[str]] = frozenset((*_WRITING, *ASKED))

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        merged = sampled(super().options(given))
        writing_options(merged)
        return merged

    def sifted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        flat = dict(given)
        flat |= dict(flat.pop("generate_kwargs", None) or {})
        return refuse_other_searches(flat)

    def stream(self, item: Any, **options: Any) -> Generator[str]:
        """The text for one input, in pieces as it emerges. The input is checked at the first piece.

        A caller that stops reading should `close()` the iterator, so that the servers drop the text's cache.
        """
        pieces = self.pieces(item, self.options(options))

        def texts() -> Generator[str]:
            with closing(pieces):
                yield from (piece.text for piece in pieces if piece.text)

        return texts()

    def pieces(self, item: Any, options: Mapping[str, Any]) -> Generator[Piece]:
        """The tokens of the text, each with the text that it makes readable."""
        before = self.runner.usage.copy()
        chosen = writing_options(options)
        notice = unapplied(self.folder.generation, chosen.sampling, options.get("do_sample") is False)
        if notice is not None:
            warnings.warn(notice, stacklevel=2)
        gap = False
        try:
            for passage in self.passages(item, options):
                steering = rules(self.folder, chosen, passage.length)
                decoder, prompt = passage.begin()
                spelling = Spelling(self.folder.tokenizer, passage.after, self.strips)
                written = write(decoder, prompt, steering, passage.guesser, chosen.sampling)
                with closing(written) as predictions:
                    for found in predictions:
                        text = spelling.add(found.token)
                        yield Piece(_spaced(text, gap), found.token, found.logits)
                        gap = gap and not text
                text = spelling.end()
                yield Piece(_spaced(text, gap))
                gap = self.strips
        finally:
            self.usage = self.runner.usage.since(before)

    @abstractmethod
    def passages(self, item: Any, options: Mapping[str, Any]) -> Iterator[Passage]:
        """The texts to write for this input, one after the other. Raises InputError before the first."""

    def one(self, item: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        chosen = writing_options(options)
        with closing(self.pieces(item, options)) as all_pieces:
            pieces = list(all_pieces)
        if chosen.return_tensors:
            result: dict[str, Any] = {
                f"{self.key}_token_ids": [p.token for p in pieces if p.token is not None]
            }
        else:
            result = self.answer(item, "".join(piece.text for piece in pieces), options)
        if chosen.logits:
            rows = [piece.logits for piece in pieces if piece.logits is not None]
            result["logits"] = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        return result

    def answer(self, item: Any, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The result with this text."""
        return {f"{self.key}_text": text}


def writing_options(options: Mapping[str, Any]) -> WritingOptions:
    """The options that steer the writing. InputError for an invalid value."""
    return WritingOptions(**{name: options[name] for name in _WRITING if name in options})


def start_token(folder: ModelFolder) -> int:
    """The token before the first. ConfigError if the model's folder does not name it."""
    found = folder.value("decoder_start_token_id")
    if found is None:
        found = folder.value("bos_token_id")
    if found is None:
        raise ConfigError(
            f"neither generation_config.json nor config.json in {folder.path} has a decoder_start_token_id",
            "copy generation_config.json from the model",
        )
    return int(found)


def decoder_prompt(folder: ModelFolder) -> list[int]:
    """The prompt of an encoder-decoder's decoder: its start token, and a forced first token if any."""
    forced = folder.value("forced_bos_token_id")
    return [start_token(folder), *(() if forced is None else (int(forced),))]


def _spaced(text: str, gap: bool) -> str:
    return f" {text}" if gap and text else text
