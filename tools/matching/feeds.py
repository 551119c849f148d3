"""Inputs for a graph from any exporter: its names and symbols determine each input's meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST_WORD = 5  # ids below it are the padding and other special tokens


@dataclass(frozen=True)
class Case:
    """Rows, new words, words in the cache, and the number of the encoder's states (words, patches or
    frames)."""

    batch: int
    sequence: int
    past: int = 0
    encoded: int = 7

    def __str__(self) -> str:
        rows = f"{self.batch} x {self.sequence}"
        return f"{rows} after {self.past}" if self.past else rows


def cases(inputs: Mapping[str, Sequence[int | str | None]], encoded: int) -> list[Case]:
    """The shapes worth trying: with padding; another length; a prompt, and one word after a past."""
    if "encoder_hidden_states" in inputs and not _cached(inputs):
        return [Case(2, 4, 0, encoded), Case(1, 1, 0, encoded)]
    if _cached(inputs):
        later = [Case(2, 3, 4, encoded), Case(1, 1, 5, encoded)]
        alone = not any("encoder" in name for name in inputs)
        return [*later, Case(2, 5, 0), Case(1, 1, 0)] if alone else later
    if "input_ids" in inputs:
        return [Case(2, 6), Case(1, 9)]
    return [Case(2, 1), Case(1, 1)]


def _cached(inputs: Mapping[str, Any]) -> bool:
    return any(name.startswith("past_key_values") for name in inputs)


def feed(
    inputs: Mapping[str, Sequence[int | str | None]], case: Case, config: Mapping[str, Any], seed: int = 0
) -> dict[str, np.ndarray]:
    """Values for every input: ids within the vocabulary, masks with padding, positions counted from the mask.

    Inputs that come from a model (states, a cache) are drawn from the normal distribution, which is rougher
    than the model's own values. The last of several rows has two hidden words: at its end where a whole text
    is read, at its start where words follow one another.
    """
    source = np.random.default_rng(seed)
    causal = _cached(inputs) and "encoder_attention_mask" not in inputs
    made: dict[str, np.ndarray] = {}
    for name, symbols in inputs.items():
        shape = _shape(name, symbols, case, config)
        if name in ("input_ids", "decoder_input_ids"):
            made[name] = source.integers(FIRST_WORD, vocabulary(config) - 1, shape)
        elif name.endswith("attention_mask"):
            made[name] = np.ones(shape, np.int64)
            if shape[0] > 1 and shape[1] > 3 and not name.startswith("decoder"):
                made[name][-1, slice(0, 2) if causal else slice(-2, None)] = 0
        elif name == "token_type_ids":
            made[name] = source.integers(0, 2, shape)
        elif name == "use_cache_branch":
            made[name] = np.array([case.past > 0])
        elif name != "position_ids":
            made[name] = source.standard_normal(shape).astype(np.float32)
    if "position_ids" in inputs:
        mask = made.get("attention_mask", np.ones((case.batch, case.past + case.sequence), np.int64))
        counted = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        made["position_ids"] = counted[:, case.past :]
    return {name: made[name] for name in inputs}


def meant(value: np.ndarray, name: str, given: Mapping[str, np.ndarray], case: Case) -> np.ndarray:
    """Where a result is meaningful, as booleans in the shape of `value`: not at the words that the mask
    hides.

    A hidden word sees nothing, or only hidden ones; exporters differ in the result for it.
    """
    mask = given.get("attention_mask")
    everywhere = np.ones(value.shape, bool)
    if mask is None or mask.all() or "encoder_hidden_states" in given:
        return everywhere
    seen = mask.astype(bool)
    if name.startswith("present"):
        return everywhere & seen[:, None, :, None] if value.shape[2] == seen.shape[1] else everywhere
    new = seen[:, case.past :]
    if value.ndim >= 2 and value.shape[:2] == new.shape:
        return everywhere & new.reshape(new.shape + (1,) * (value.ndim - 2))
    return everywhere


def vocabulary(config: Mapping[str, Any]) -> int:
    """Rows of the table of words, wherever the configuration gives them."""
    found = [int(value) for key, value in config.items() if key == "vocab_size" and value]
    inside = [vocabulary(value) for value in config.values() if isinstance(value, dict)]
    return min([*found, *(value for value in inside if value)], default=0)


def _shape(
    name: str, symbols: Sequence[int | str | None], case: Case, config: Mapping[str, Any]
) -> tuple[int, ...]:
    if name == "pixel_values":
        picture = config.get("vision_config") or config.get("encoder") or config
        size = picture["image_size"]
        return (case.batch, int(picture.get("num_channels", 3)), size, size)
    if name == "input_features":
        return (case.batch, int(config["num_mel_bins"]), 2 * int(config["max_source_positions"]))
    return tuple(symbol if isinstance(symbol, int) else _extent(str(symbol), case) for symbol in symbols)


def _extent(symbol: str, case: Case) -> int:
    if "+" in symbol:
        return sum(_extent(part.strip(), case) for part in symbol.split("+"))
    if symbol.isdigit():
        return int(symbol)
    meanings = {"batch": case.batch, "total": case.past + case.sequence, "encode": case.encoded}
    meanings |= {"past": case.past, "sequence": case.sequence}
    for part, extent in meanings.items():
        if part in symbol:
            return extent
    raise KeyError(f"what is {symbol!r} the length of?")
