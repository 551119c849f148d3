"""feature-extraction and image-feature-extraction: the numbers that a model sees in a text or a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from onnxpuma.tasks.caption import pixels
from onnxpuma.tasks.decoder import MODEL
from onnxpuma.tasks.once import OneRun, text_feed
from onnxpuma.tasks.port import signature

_USUAL = ("last_hidden_state", "sentence_embedding", "image_embeds")


class FeatureExtraction(OneRun):
    """The features of a text: a nested list (1, tokens, width), or an array with return_tensors=True.

    output: which of the model's outputs; by default last_hidden_state, else the first one.
    truncation=True cuts a text that is too long for the model.
    """

    known: ClassVar[frozenset[str]] = frozenset(("return_tensors", "output", "truncation"))

    def output(self, options: Mapping[str, Any]) -> str:
        outputs = signature(self.runner, MODEL).outputs
        usual = next((name for name in _USUAL if name in outputs), outputs[0])
        return str(options.get("output") or usual)

    def result(self, opened: np.ndarray, options: Mapping[str, Any]) -> Any:
        return opened if options.get("return_tensors") else opened.tolist()

    def alone(self, result: Any) -> Any:
        return result

    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return text_feed(self, item, options)


class ImageFeatureExtraction(FeatureExtraction):
    """The features of a picture: a path, or a PIL image in mode RGB."""

    known: ClassVar[frozenset[str]] = frozenset(("return_tensors", "output"))

    def feed(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return pixels(self.runner, self.folder, MODEL, item)
