"""Decoders with a cache: one file that takes the past and returns the present, flat, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from exporting import ExportError
from exporting.examples import attention_mask, words
from exporting.parts import Part, Sizes
from exporting.pasts import given_past, present_of
from exporting.tracing import BATCH_SEQUENCE, Axes
from exporting.whole import accepted

PAST_AXES: Axes = {0: "batch", 2: "past"}


class Cached(torch.nn.Module):
    """(ids, mask of past and new, [positions], key, value, key, ...) -> (logits, key, value, key, ...)."""

    def __init__(self, model: Any, positions: bool) -> None:
        super().__init__()
        self.model = model
        self.positions = positions

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ids, mask, *rest = tensors
        given: dict[str, Any] = {"position_ids": rest.pop(0)} if self.positions else {}
        given |= given_past(self.model, filled(rest))
        result = self.model(input_ids=ids, attention_mask=mask, **given)
        return (result.logits, *flat(present_of(result)))


def filled(tensors: Any) -> DynamicCache:
    """A cache with these keys and values."""
    held = DynamicCache()
    for layer, (key, value) in enumerate(zip(tensors[::2], tensors[1::2], strict=True)):
        held.update(key, value, layer)
    return held


def flat(held: Any) -> tuple[torch.Tensor, ...]:
    """The keys and values of a cache, layer by layer."""
    return tuple(tensor for layer in held.layers for tensor in (layer.keys, layer.values))


def names(prefix: str, layers: int, side: str = "") -> list[str]:
    """past_key_values.0.key, past_key_values.0.value, ...; `side` is "decoder." or "encoder."."""
    return [f"{prefix}.{layer}.{side}{kind}" for layer in range(layers) for kind in ("key", "value")]


def causal(model: Any) -> list[Part]:
    """The single file model.onnx. Raises ExportError where the cache is not keys and values per layer."""
    with torch.no_grad():
        held = present_of(model(input_ids=torch.full((1, 2), 5), use_cache=True))
    if type(held) is not DynamicCache or not all(hasattr(layer, "keys") for layer in held.layers):
        raise ExportError(
            f"{type(model).__name__} represents its past as {type(held).__name__}, not as keys and values",
            "--task text-generation exports it without a cache",
        )
    layers = len(held.layers)
    keys = names("past_key_values", layers)
    shapes = [(tensor.shape[1], tensor.shape[3]) for tensor in flat(held)]  # heads, width
    positions = "position_ids" in accepted(model)
    axes: dict[str, Axes] = {"input_ids": BATCH_SEQUENCE, "attention_mask": {0: "batch", 1: "total"}}
    if positions:
        axes["position_ids"] = BATCH_SEQUENCE
    axes |= dict.fromkeys(keys, PAST_AXES)
    outputs = ("logits", *names("present", layers))
    module = Cached(model, positions).eval()
    example = partial(_example, module, shapes, positions)
    used = (Sizes(1, 1, 6, 0, 2), Sizes(2, 5, 0, 0, 3))  # one more token; a prompt, with nothing before it
    return [Part("model.onnx", module, axes, outputs, example, used)]


def _example(
    module: Cached, shapes: Sequence[tuple[int, int]], positions: bool, sizes: Sizes
) -> tuple[torch.Tensor, ...]:
    source = torch.Generator().manual_seed(sizes.seed)
    before, total = sizes.past, sizes.past + sizes.sequence
    ids = words(module.model.config, sizes.batch, total, source)
    # Prompts are padded on the left. A padded word sees nothing, and its result depends on the runtime: it
    # serves only as past.
    padded = attention_mask(sizes.batch, total).flip(1)
    mask = padded if before else torch.ones_like(padded)
    counted = (torch.cumsum(mask, dim=1) - 1).clamp(min=0)

    def run_at(start: int, stop: int) -> tuple[torch.Tensor, ...]:
        given = (ids[:, start:stop], mask[:, :stop])
        return (*given, counted[:, start:stop]) if positions else given

    past = tuple(torch.zeros(sizes.batch, heads, 0, width) for heads, width in shapes)
    if before:  # made by the model: a cache of noise drives a trained model far from its usual operation
        with torch.no_grad():
            _, *made = module(*run_at(0, before), *past)
        past = tuple(made)
    return (*run_at(before, total), *past)
