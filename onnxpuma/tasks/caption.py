"""image-to-text: captions of pictures, and the text that they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.tasks.decoder import ENCODER, encoder_decoder
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.image import picture
from onnxpuma.tasks.port import Runner, signature
from onnxpuma.tasks.writer import Passage, Writer, decoder_prompt


class ImageToText(Writer):
    """Describes a picture: a path, or a PIL image in mode RGB. Results: {"generated_text": text}."""

    def among(self, result: Any) -> Any:
        return [result]

    def passages(self, item: Any, options: Mapping[str, Any]) -> Iterator[Passage]:
        feed = pixels(self.runner, self.folder, ENCODER, item)
        prompt = decoder_prompt(self.folder)
        logits = bool(options.get("logits"))
        yield Passage(len(prompt), lambda: (encoder_decoder(self.runner, feed, logits), prompt))


def pixels(runner: Runner, folder: ModelFolder, graph: str, item: Any) -> dict[str, np.ndarray]:
    """The image processor's output for a picture, as `graph` takes it; float32 (1, 3, height, width)."""
    made = folder.image_processor(picture(item), return_tensors="np")
    takes = signature(runner, graph).inputs
    feed = {name: np.asarray(array) for name, array in made.items() if name in takes}
    missing = [name for name in takes if name not in feed]
    if missing:
        raise ConfigError(
            f"the image processor does not make {', '.join(missing)}, which the model takes",
            "use the image processor that belongs to this model",
        )
    return feed
