"""How the demo draws a client's inputs and a model's outputs: a record, an image, a text, probabilities."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.commands import screen
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.dpf import Dealt, SecretIds
from onnxpuma.shipped import ShippedModel

_INK = " .:-=+*#%@"
_COLUMNS = 3


def draw_input(model: ShippedModel, value: np.ndarray) -> list[str]:
    """Lines that show one example as its owner would see it."""
    task = model.card["task"]
    if task == "tabular-classification":
        return _record(model.card["input"]["features"], value[0])
    if task == "image-classification":
        return _image(value[0, 0])
    return [f'"{tell(model, value[0])}"']


def draw_classes(classes: Sequence[str], logits: np.ndarray, most: int = 3) -> list[str]:
    """The likeliest classes, each with a bar."""
    odds = probabilities(logits)
    width = max(len(name) for name in classes)
    return [
        f"{classes[place]:{width}}  {100 * odds[place]:5.1f} %  {'█' * round(30 * odds[place])}".rstrip()
        for place in np.argsort(-odds, kind="stable")[:most]
    ]


def draw_share(share: Dealt, count: int) -> str:
    """The first words of a party's share, in hexadecimal."""
    if isinstance(share, SecretIds):
        words = share.own.seed
    elif isinstance(share, Replicated):
        words = share.first
    else:
        raise TypeError(f"a {type(share).__name__} is not an input")
    digits = 2 * words.dtype.itemsize
    return " ".join(f"{int(word):0{digits}x}" for word in words.reshape(-1)[:count])


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of one row."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


def tell(model: ShippedModel, ids: np.ndarray) -> str:
    """The text of a row of token ids."""
    tokens, _ = _vocabulary(model)
    text = " ".join(tokens[int(number)] for number in ids)
    return re.sub(r" ([.,!?])", r"\1", text)


def ends_sentence(model: ShippedModel, token: int) -> bool:
    """Whether this token ends a sentence or the whole text."""
    tokens, end = _vocabulary(model)
    return tokens[token] in (".", "!", "?", end)


def _vocabulary(model: ShippedModel) -> tuple[list[str], str]:
    listing: dict[str, Any] = json.loads((model.folder / model.card["vocabulary"]).read_text())
    return listing["tokens"], listing["end"]


def _record(names: Sequence[str], values: np.ndarray) -> list[str]:
    cells = [f"{name:24}{value:9.4g}" for name, value in zip(names, values, strict=True)]
    rows = -(-len(cells) // _COLUMNS)
    return ["   ".join(cells[row::rows]) for row in range(rows)]


def _image(ink: np.ndarray) -> list[str]:
    shades = np.clip(ink / 16 * (len(_INK) - 1), 0, len(_INK) - 1).round().astype(int)
    return ["".join(2 * _INK[shade] for shade in row) for row in shades]


def show(lines: Sequence[str]) -> None:
    """Print lines, indented by two."""
    for line in lines:
        screen.say(f"  {screen.plain(line)}")
