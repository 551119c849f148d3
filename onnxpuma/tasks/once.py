"""Tasks whose model runs once: one input by itself, or a batch of inputs padded to one length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxpuma.errors import InputError, ModelError
from onnxpuma.roles.client.rows import alike, batched_inputs, joined, parted
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.decoder import MODEL
from onnxpuma.tasks.port import Run, signature
from onnxpuma.tasks.text import encoded

Feed = dict[str, np.ndarray]

_MASK, _POSITIONS = "attention_mask", "position_ids"
_PADDED = ("input_ids", _MASK, "token_type_ids")  # by the tokenizer


class OneRun(Pipeline):
    """Runs the only graph of its model, and makes a result of one output.

    A batch takes the rounds of a single input. Texts are padded to the longest of the batch if the model
    takes a mask; others share a run only if they have equal lengths.
    """

    @abstractmethod
    def feed(self, item: Any, options: Mapping[str, Any]) -> Feed:
        """The model's inputs for this item: one row of each. Raises InputError."""

    @abstractmethod
    def output(self, options: Mapping[str, Any]) -> str:
        """The output to open."""

    @abstractmethod
    def result(self, opened: np.ndarray, options: Mapping[str, Any]) -> Any:
        """The result for one input, from its row of the output."""

    def one(self, item: Any, options: Mapping[str, Any]) -> Any:
        return self.several([item], options)[0]

    def several(self, items: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        output, feeds = self.output(options), [self.feed(item, options) for item in items]
        known = signature(self.runner, MODEL)
        if output not in known.outputs:
            raise ModelError(f"the model has no output '{output}'", f"it has {', '.join(known.outputs)}")
        if len(feeds) == 1:
            return [self.result(self._opened(feeds[0], output), options)]
        batched = batched_inputs({name: port.shape for name, port in known.inputs.items()})
        lengths = [_length(feed) for feed in feeds]
        feeds = padded(self.folder.tokenizer, feeds) if len(set(lengths)) > 1 else feeds
        rows: dict[int, np.ndarray] = {}
        for places in alike(feeds, batched):
            shared = joined([feeds[place] for place in places], batched)
            found = parted({output: self._opened(shared, output)}, [1] * len(places))
            for place, row in zip(places, found, strict=True):
                rows[place] = _unpadded(row[output], lengths[place], feeds[place])
        return [self.result(rows[place], options) for place in range(len(items))]

    def _opened(self, feed: Feed, output: str) -> np.ndarray:
        return self.runner.run(Run(MODEL, feed, [output])).outputs[output]


def text_feed(pipeline: Pipeline, item: Any, options: Mapping[str, Any]) -> Feed:
    """The feed of a model that runs once, for a text or for {"text", "text_pair"}. Raises InputError."""
    text, pair = (item.get("text"), item.get("text_pair")) if isinstance(item, Mapping) else (item, None)
    folder = pipeline.folder
    truncation = bool(options.get("truncation"))
    made = encoded(folder.tokenizer, text, folder.positions, truncation, pair)
    shape = made["input_ids"].shape
    made = {
        _MASK: np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
        _POSITIONS: np.arange(shape[1], dtype=np.int64)[None],
        **made,
    }
    takes = signature(pipeline.runner, MODEL).inputs
    return {name: array for name, array in made.items() if name in takes}


def padded(tokenizer: Any, feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds of texts, padded to the longest as the tokenizer pads; unchanged for a model without a mask.

    Padding is on the right for a model that takes no positions: it would count padding on the left. Raises
    InputError for a tokenizer without a token for it.
    """
    if _MASK not in feeds[0]:
        return list(feeds)
    side = tokenizer.padding_side if _POSITIONS in feeds[0] else "right"
    names = [name for name in _PADDED if name in feeds[0]]
    rows = [{name: feed[name][0] for name in names} for feed in feeds]
    try:
        made = tokenizer.pad(rows, padding=True, padding_side=side, return_tensors="np", verbose=False)
    except ValueError as error:
        raise InputError(
            "the tokenizer has no token to pad with, so texts of different lengths cannot share a run",
            "name one, such as pipe.folder.tokenizer.pad_token = pipe.folder.tokenizer.eos_token; or omit"
            " batch_size",
        ) from error
    arrays = {name: np.asarray(made[name], np.int64) for name in names}
    if _POSITIONS in feeds[0]:
        arrays[_POSITIONS] = np.maximum(arrays[_MASK].cumsum(axis=1) - 1, 0)
    return [{name: arrays[name][place : place + 1] for name in feeds[0]} for place in range(len(feeds))]


def _length(feed: Feed) -> int:
    """The tokens of a text; 0 for any other input."""
    return feed["input_ids"].shape[1] if "input_ids" in feed else 0


def _unpadded(row: np.ndarray, length: int, feed: Feed) -> np.ndarray:
    """The numbers of the text itself, where the row (1, tokens, ...) has some for each token."""
    tokens = _length(feed)
    if length == tokens or row.ndim < 3 or row.shape[1] != tokens:
        return row
    return row[:, feed[_MASK][0].astype(bool)]
