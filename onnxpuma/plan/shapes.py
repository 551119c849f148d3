"""Whether the shapes of a request fit a model: concrete for each input, and each symbol of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxpuma.errors import InputError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.spec import InputSpec


def _too_small(spec: InputSpec, place: int, extent: int) -> bool:
    """Whether an axis is too short: an empty batch, no ids. A decoder's cache may be empty."""
    empty_default = spec.default is not None and spec.default.shape[place] == 0
    may_be_empty = spec.shape[place] == 0 or empty_default or (spec.dtype.kind == "f" and place > 0)
    return extent < (0 if may_be_empty else 1)


def weight_hint(blueprint: Blueprint, names: Sequence[str]) -> str:
    """The part of a hint about names in a feed that are weights, not inputs."""
    name = next((name for name in names if name in blueprint.graph.initializers), None)
    if name is None:
        return ""
    return (
        f"; '{name}' is a weight and stays with the servers: prepare the model with --secret-input {name}"
        " to give it with each request, if its file lists it among its inputs"
    )


def check_shapes(blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError unless each input has one concrete shape, and these fit the declared ones."""
    missing = [n for n in blueprint.inputs if n not in shapes]
    extra = [n for n in shapes if n not in blueprint.inputs]
    if missing or extra:
        what = f"missing: {', '.join(missing)}" if missing else f"unknown: {', '.join(extra)}"
        raise InputError(
            f"the inputs do not fit the model ({what})",
            f"it takes {', '.join(blueprint.inputs)}{weight_hint(blueprint, extra)}",
        )
    symbols: dict[str, int] = {}
    for name, spec in blueprint.inputs.items():
        shape = tuple(shapes[name])
        fits = len(shape) == len(spec.shape)
        for have, want in zip(shape, spec.shape, strict=False):
            if isinstance(want, int):
                fits = fits and have == want
            elif isinstance(want, str):
                fits = fits and symbols.setdefault(want, have) == have
        if fits and any(_too_small(spec, place, extent) for place, extent in enumerate(shape)):
            raise InputError(
                f"input '{name}' has shape {shape}, which is empty",
                "give it a batch of one or more, and at least one id",
            )
        if not fits:
            declared = ", ".join(str(d) for d in spec.shape)
            bound = ", ".join(f"{k} = {v}" for k, v in symbols.items())
            raise InputError(
                f"input '{name}' has shape {shape}, the model takes ({declared})"
                + (f" with {bound}" if bound else ""),
                "reshape it, or give all inputs the same batch and sequence",
            )
