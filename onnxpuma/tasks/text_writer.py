"""Texts from texts: generation with a decoder; summarization, translation and others with an encoder too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.tasks.decoder import ENCODER, causal_decoder, encoder_decoder
from onnxpuma.tasks.guesses import Guesser, guesser_of
from onnxpuma.tasks.port import signature
from onnxpuma.tasks.rules import rules
from onnxpuma.tasks.text import check_length, checked, encoded
from onnxpuma.tasks.together import alike, can_share, write_together
from onnxpuma.tasks.writer import Passage, Writer, decoder_prompt, writing_options
from onnxpuma.tasks.writing import Spelling


class TextGeneration(Writer):
    """Continues a text, or answers a chat: a list of {"role": ..., "content": ...}.

    Options beside those of WritingOptions: return_full_text (True: the result includes the prompt or the
    chat); draft and draft_tokens (the next tokens are guessed, as `guesser_of` says; the text is the same).
    Results: {"generated_text": text}; for a chat, the chat with its answer in place of the text.
    """

    known: ClassVar[frozenset[str]] = Writer.known | {"return_full_text", "draft", "draft_tokens"}
    _asked: tuple[Any, Any] = (None, None)
    _made: Guesser | None = None

    def is_one(self, inputs: Any) -> bool:
        return bool(inputs) and all(isinstance(item, Mapping) for item in inputs)

    def among(self, result: Any) -> Any:
        return [result]

    def passages(self, item: Any, options: Mapping[str, Any]) -> Iterator[Passage]:
        ids = self._ids(item)
        guesser = self._guesser(options)
        logits = bool(options.get("logits"))
        yield Passage(len(ids), lambda: (causal_decoder(self.runner, logits), ids), ids, guesser)

    def several(self, items: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        """The texts of a batch, written together where the model and the options allow it."""
        chosen = writing_options(options)
        prompts = [self._ids(item) for item in items]
        every = [rules(self.folder, chosen, len(ids)) for ids in prompts]
        apart = chosen.logits or chosen.fixed_length or options.get("draft") not in (None, "none")
        if len(items) == 1 or apart or not can_share(self.runner) or not alike(every):
            return super().several(items, options)
        pad = self.folder.tokenizer.pad_token_id or 0  # any id: the mask hides it
        written = write_together(self.runner, prompts, every, pad, chosen.sampling)
        results = []
        for item, ids, new in zip(items, prompts, written, strict=True):
            if chosen.return_tensors:
                results.append({f"{self.key}_token_ids": new})
            else:
                spelling = Spelling(self.folder.tokenizer, ids, self.strips)
                text = "".join([*map(spelling.add, new), spelling.end()])
                results.append(self.answer(item, text, options))
        return results

    def answer(self, item: Any, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
        if not options.get("return_full_text", True):
            return {"generated_text": text}
        if isinstance(item, str):
            return {"generated_text": item + text}
        return {"generated_text": [*item, {"role": "assistant", "content": text}]}

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        merged = super().options(given)
        if merged.get("fixed_length") and merged.get("draft") not in (None, "none"):
            raise InputError(
                "fixed_length hides how long a text is; drafts show the servers how many guesses were right",
                "omit one of them",
            )
        if merged.get("sampling") is not None and merged.get("draft") not in (None, "none"):
            raise InputError(
                "a draft is judged by the likeliest tokens, and these are drawn",
                "omit the draft, or do_sample and what belongs to it",
            )
        return merged

    def _guesser(self, options: Mapping[str, Any]) -> Guesser | None:
        """The guesser for these options; a model for drafts is loaded once."""
        asked = options.get("draft"), options.get("draft_tokens")
        if self._asked != asked:
            self._made = guesser_of(*asked, self.folder.tokenizer)
            self._asked = asked
        return self._made

    def _ids(self, item: Any) -> list[int]:
        tokenizer, most = self.folder.tokenizer, self.folder.positions
        if not isinstance(item, (list, tuple)):
            return [int(token) for token in encoded(tokenizer, item, most)["input_ids"][0]]
        for message in item:
            if not {"role", "content"} <= set(message):
                raise InputError(
                    "a message has no role or no content", "write {'role': 'user', 'content': 'Hello'}"
                )
            checked(message["content"])
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                "the tokenizer of this model has no chat template", "pass one text in place of messages"
            )
        made = tokenizer.apply_chat_template(
            list(item), add_generation_prompt=True, tokenize=True, return_dict=True
        )
        ids = [int(token) for token in made["input_ids"]]
        check_length(len(ids), most)
        return ids


class TextToText(Writer):
    """Turns a text into another with an encoder-decoder. T5 expects its instruction before the text:
    "translate English to German: ...".

    Options beside those of WritingOptions: truncation (True: cut a text that is too long for the model).
    Results: {"generated_text": text}.
    """

    known: ClassVar[frozenset[str]] = Writer.known | {"truncation"}

    def passages(self, item: Any, options: Mapping[str, Any]) -> Iterator[Passage]:
        folder = self.folder
        made = encoded(folder.tokenizer, item, folder.source_positions, bool(options.get("truncation")))
        length = made["input_ids"].shape[1]
        made = {"attention_mask": np.ones((1, length), np.int64), **made}
        takes = signature(self.runner, ENCODER).inputs
        feed = {name: array for name, array in made.items() if name in takes}
        prompt = decoder_prompt(folder)
        logits = bool(options.get("logits"))
        yield Passage(len(prompt), lambda: (encoder_decoder(self.runner, feed, logits), prompt))


class Summarization(TextToText):
    """Results: {"summary_text": text}."""

    key = "summary"


class Translation(TextToText):
    """Results: {"translation_text": text}."""

    key = "translation"
