"""text-classification and image-classification: labels and scores from logits that only the client opens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from onnxpuma.errors import InputError, ModelError
from onnxpuma.graph.next_token import LOGITS
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.caption import pixels
from onnxpuma.tasks.decoder import MODEL
from onnxpuma.tasks.port import Run, Runner, signature
from onnxpuma.tasks.text import encoded

_FUNCTIONS = ("softmax", "sigmoid", "none")


class Classification(Pipeline):
    """Results: the `top_k` likeliest labels (None: all) as {"label": name, "score": number}.

    function_to_apply: softmax, sigmoid or none; by default, the one for the model's problem_type.
    """

    known: ClassVar[frozenset[str]] = frozenset(("top_k", "function_to_apply"))

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        merged = super().options(given)
        top, function = merged.get("top_k"), merged.get("function_to_apply")
        if top is not None and (type(top) is not int or top < 1):
            raise InputError(f"top_k is {top!r}", "pass a number of labels, or None for all")
        if function is not None and function not in _FUNCTIONS:
            raise InputError(f"function_to_apply is {function!r}", f"choose from {', '.join(_FUNCTIONS)}")
        return merged

    def alone(self, result: Any) -> Any:
        return result

    @abstractmethod
    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The model's inputs for this item. Raises InputError."""

    def ranked(self, item: Any, options: Mapping[str, Any], top: int | None) -> list[dict[str, Any]]:
        """Labels and scores, the likeliest first."""
        row = opened(self.runner, self.feed(item, options), LOGITS).reshape(-1).astype(np.float64)
        scores = _applied(options.get("function_to_apply") or self._function(row.size), row)
        names = self.folder.config.get("id2label") or {}
        order = np.argsort(-scores, kind="stable")[:top]
        return [{"label": names.get(str(i), f"LABEL_{i}"), "score": float(scores[i])} for i in order]

    def _function(self, labels: int) -> str:
        problem = self.folder.config.get("problem_type")
        if problem == "regression":
            return "none"
        return "sigmoid" if problem == "multi_label_classification" or labels == 1 else "softmax"


class TextClassification(Classification):
    """Classifies a text, or a pair: {"text": one, "text_pair": other}. Without `top_k`, it returns only the
    likeliest label. truncation=True cuts a text that is too long for the model."""

    known: ClassVar[frozenset[str]] = Classification.known | {"truncation"}

    def one(self, item: Any, options: Mapping[str, Any]) -> Any:
        if "top_k" in options:
            return self.ranked(item, options, options["top_k"])
        return self.ranked(item, options, 1)[0]

    def alone(self, result: Any) -> Any:
        return result if isinstance(result, list) else [result]

    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return text_feed(self, item, options)


class ImageClassification(Classification):
    """Classifies a picture: a path, or a PIL image in mode RGB. By default the five likeliest labels."""

    def one(self, item: Any, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.ranked(item, options, options.get("top_k", 5))

    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return pixels(self.runner, self.folder, MODEL, item)


def text_feed(pipeline: Pipeline, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The feed of a model that runs once, for a text or for {"text", "text_pair"}. Raises InputError."""
    text, pair = (item.get("text"), item.get("text_pair")) if isinstance(item, Mapping) else (item, None)
    folder = pipeline.folder
    truncation = bool(options.get("truncation"))
    made = encoded(folder.tokenizer, text, folder.positions, truncation, pair)
    shape = made["input_ids"].shape
    made = {
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
        "position_ids": np.arange(shape[1], dtype=np.int64)[None],
        **made,
    }
    takes = signature(pipeline.runner, MODEL).inputs
    return {name: array for name, array in made.items() if name in takes}


def opened(runner: Runner, feed: Mapping[str, np.ndarray], output: str) -> np.ndarray:
    """Run the only graph and open one output. ModelError if it has none of this name."""
    outputs = signature(runner, MODEL).outputs
    if output not in outputs:
        raise ModelError(f"the model has no output '{output}'", f"it has {', '.join(outputs)}")
    return runner.run(Run(MODEL, feed, [output])).outputs[output]


def _applied(function: str, row: np.ndarray) -> np.ndarray:
    if function == "softmax":
        powers = np.exp(row - row.max())
        return np.asarray(powers / powers.sum())
    return np.asarray(1 / (1 + np.exp(-row))) if function == "sigmoid" else row
