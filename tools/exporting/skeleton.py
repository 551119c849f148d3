"""A model without its weights: on the meta device, where a tensor has a shape and no values.

Buffers that no checkpoint has (frequencies of rotary embeddings) are computed; every other value is named by
the tensor of the checkpoint that holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import transformers

from exporting import ExportError
from exporting.alibi import use_single_alibi
from exporting.experts import use_all_experts
from exporting.tasks import Task


def skeleton(config: Any, task: Task) -> Any:
    """The model in eval mode and single precision, without memory for its weights.

    Raises ExportError where the architecture has no class for the task.
    """
    try:
        with torch.device("meta"):
            model = getattr(transformers, task.auto_class).from_config(config, dtype=torch.float32)
    except ValueError as error:
        hint = f"choose a --task that this architecture has a {task.auto_class} for"
        raise ExportError(str(error).splitlines()[0], hint) from error
    use_all_experts(model)
    use_single_alibi(model)
    return model.eval().requires_grad_(False)


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """What a checkpoint of the model has to hold: of tied weights the first name alone."""
    named = {name: tensor for group in _groups(model) for name, tensor in list(group.items())[:1]}
    return {name: tuple(tensor.shape) for name, tensor in named.items()}


def stored_names(model: Any, stored: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Weight or buffer of the model -> the tensor of the checkpoint that holds it; two tied weights have one.

    stored: the shapes of the checkpoint's tensors. A checkpoint of the bare model leaves out the prefix of
    the whole (`transformer.`). Raises ExportError for a tensor that is missing, and for one of another shape.
    """
    prefix = f"{model.base_model_prefix}."
    found: dict[str, str] = {}
    missing: list[str] = []
    for group in _groups(model):
        names = [known for name in group for known in (name, name.removeprefix(prefix), prefix + name)]
        held = next((name for name in names if name in stored), None)
        if held is None:
            missing.append(next(iter(group)))
            continue
        for name, tensor in group.items():
            if tuple(tensor.shape) != stored[held]:
                raise ExportError(
                    f"tensor {held!r} of the checkpoint has shape {stored[held]}, "
                    f"and by config.json {tuple(tensor.shape)}",
                    "take config.json and the weights from one checkpoint",
                )
            found[name] = held
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ExportError(
            f"the checkpoint lacks the tensor {missing[0]!r}{more}",
            "copy it again with all of its files; one that arranges its weights differently from the model "
            "cannot be exported in place",
        )
    return found


def _groups(model: Any) -> list[dict[str, torch.Tensor]]:
    """The tensors of a checkpoint by name; those that are tied, which are one object, together."""
    groups: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), {})[name] = tensor
    return list(groups.values())


def compute_buffers(model: Any, stored: Collection[str]) -> None:
    """Give each buffer its values, except those that are `stored`.

    Raises ExportError where the installed Transformers does not compute them apart from the weights.
    """
    for path, module in model.named_modules():
        names = [name for name, held in module._buffers.items() if held is not None]
        mine = [name for name in names if (f"{path}.{name}" if path else name) not in stored]
        mine = [name for name in mine if module._buffers[name].is_meta]
        for name in mine:
            module._buffers[name] = _unset(module._buffers[name])
        if mine:
            model._init_weights(module)
        for name in mine:
            made = module._buffers[name]
            if made.numel() and torch.equal(_bytes(made), _bytes(_unset(made))):
                raise ExportError(
                    f"this Transformers ({transformers.__version__}) does not say how to compute the buffer "
                    f"{path}.{name}, which no checkpoint has",
                    "install Transformers 5, or omit --in-place",
                )


def _unset(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of values that no buffer has."""
    odd = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    _bytes(odd).fill_(0xAB)
    return odd


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)
