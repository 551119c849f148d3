"""Models that run once for an answer: encoders, classifiers, and decoders without a cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from exporting import ExportError
from exporting.examples import drawn, input_axes
from exporting.parts import Part, Sizes
from exporting.pasts import past_name
from exporting.tasks import Task

# By default these count positions from `input_ids != pad`, which would make every position secret.
COUNTS_FROM_PAD = {
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet"
}  # fmt: skip


class Wrapped(torch.nn.Module):
    """A Transformers model as a function of positional tensors that returns a tuple of tensors."""

    def __init__(self, model: Any, inputs: Sequence[str], outputs: Sequence[str], mean_pooled: bool) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.mean_pooled = mean_pooled
        self.takes = accepted(model)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given: dict[str, Any] = dict(zip(self.inputs, tensors, strict=True))
        mask = given.get("attention_mask")
        if mask is not None:
            given |= self.public_positions(mask)
        if "use_cache" in self.takes:
            given["use_cache"] = False
        if hasattr(self.model, "score") and mask is not None:
            return (self.score_of_last(given, mask),)
        result = self.model(**given)
        if self.mean_pooled:
            weight = mask.unsqueeze(-1).to(result.last_hidden_state.dtype)  # (b, n, 1)
            weight = weight / weight.sum(dim=1, keepdim=True)
            return ((result.last_hidden_state * weight).sum(dim=1),)
        return tuple(result[name] for name in self.outputs)

    def public_positions(self, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Positions that the architecture would count from secret ids, or not per row, from the mask."""
        config = self.model.config
        if "position_ids" not in self.takes:
            return {}
        if config.model_type in COUNTS_FROM_PAD:
            # The mask gives the same result as `input_ids != pad`, and is public.
            counted = {"position_ids": torch.cumsum(mask, dim=1) * mask + config.pad_token_id}
            if "token_type_ids" in self.takes and "token_type_ids" not in self.inputs:
                counted["token_type_ids"] = torch.zeros_like(mask)
            return counted
        if past_name(self.model) and not getattr(config, "is_encoder_decoder", False):
            # Counted per row, so that prompts of different lengths may be padded on either side.
            return {"position_ids": (torch.cumsum(mask, dim=1) - 1).clamp(min=0)}
        if getattr(config, "rope_parameters", None):
            # By default it counts for one row, which dynamo's node for rotary embedding does not take.
            return {"position_ids": torch.arange(mask.shape[1]).expand(mask.shape)}
        return {}

    def score_of_last(self, given: dict[str, Any], mask: torch.Tensor) -> torch.Tensor:
        """The scores of a classifier on a decoder, which reads the last word and would look for it in the
        secret ids."""
        hidden = self.model.base_model(**given).last_hidden_state  # (b, n, d)
        places = torch.arange(mask.shape[1]) * mask  # (b, n)
        last = places.argmax(dim=1)  # (b,)
        scores: torch.Tensor = self.model.score(hidden[torch.arange(mask.shape[0]), last])
        return scores


def accepted(model: Any) -> frozenset[str]:
    """The names of the arguments that a model's forward takes."""
    return frozenset(inspect.signature(model.forward).parameters)


def whole(model: Any, task: Task) -> list[Part]:
    """The single file model.onnx. Raises ExportError where the model has none of the task's outputs."""
    config = model.config
    if getattr(config, "is_encoder_decoder", False) and task.auto_class == "AutoModel":
        model = model.get_encoder()
    inputs = input_names(model, task)
    outputs = task.outputs if task.mean_pooled else kept_outputs(model, task, inputs)
    module = Wrapped(model, inputs, outputs, task.mean_pooled).eval()
    example = partial(drawn, model.config, inputs)
    return [Part("model.onnx", module, input_axes(inputs), outputs, example)]


def input_names(model: Any, task: Task) -> tuple[str, ...]:
    """The graph's inputs, in order: segments only where the model tells more than one apart."""
    if task.modality == "image":
        return ("pixel_values",)
    names = ("input_ids", "attention_mask")
    if "token_type_ids" in accepted(model) and getattr(model.config, "type_vocab_size", 0) > 1:
        return (*names, "token_type_ids")
    return names


def kept_outputs(model: Any, task: Task, inputs: Sequence[str]) -> tuple[str, ...]:
    """The task's outputs that this architecture returns."""
    with torch.no_grad():
        result = model(**dict(zip(inputs, drawn(model.config, inputs, Sizes(1, 8, 0, 0, 0)), strict=True)))
    kept = tuple(name for name in task.outputs if result.get(name) is not None)
    if not kept:
        raise ExportError(
            f"{type(model).__name__} gives none of {', '.join(task.outputs)}", "choose another --task"
        )
    return kept
