"""text-classification and image-classification: labels and scores from logits that only the client opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.next_token import LOGITS
from onnxpuma.tasks.caption import pixels
from onnxpuma.tasks.decoder import MODEL
from onnxpuma.tasks.once import OneRun, text_feed

_FUNCTIONS = ("softmax", "sigmoid", "none")


class Classification(OneRun):
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

    def output(self, options: Mapping[str, Any]) -> str:
        return LOGITS

    def ranked(self, opened: np.ndarray, options: Mapping[str, Any], top: int | None) -> list[dict[str, Any]]:
        """Labels and scores, the likeliest first."""
        row = opened.reshape(-1).astype(np.float64)
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

    def result(self, opened: np.ndarray, options: Mapping[str, Any]) -> Any:
        if "top_k" in options:
            return self.ranked(opened, options, options["top_k"])
        return self.ranked(opened, options, 1)[0]

    def alone(self, result: Any) -> Any:
        return result if isinstance(result, list) else [result]

    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return text_feed(self, item, options)


class ImageClassification(Classification):
    """Classifies a picture: a path, or a PIL image in mode RGB. By default the five likeliest labels."""

    def result(self, opened: np.ndarray, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.ranked(opened, options, options.get("top_k", 5))

    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return pixels(self.runner, self.folder, MODEL, item)


def _applied(function: str, row: np.ndarray) -> np.ndarray:
    if function == "softmax":
        powers = np.exp(row - row.max())
        return np.asarray(powers / powers.sum())
    return np.asarray(1 / (1 + np.exp(-row))) if function == "sigmoid" else row
