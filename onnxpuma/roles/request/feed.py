"""Check what a caller feeds before a byte moves: names, types, shapes, numbers, ids."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxpuma.errors import InputError, PlanError
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.range_reading import beyond_need
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.closed import STATES, paired
from onnxpuma.plan.inputs.spec import LARGEST_INPUT, InputSpec, largest_input
from onnxpuma.plan.known.readers import Readers, readers_of
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.shapes import check_shapes, weight_hint
from onnxpuma.plan.walk.masks import given_reach
from onnxpuma.roles.request.kept import Kept
from onnxpuma.standard.mask_values import MASKED


def check_feed(blueprint: Blueprint, feed: Mapping[str, Any]) -> dict[str, np.ndarray | Kept]:
    """The feed as arrays of the declared types, in the model's order; handles of kept values pass unchanged.

    A float may come in any type that fits in float64, an integer or boolean in any type that fits in the
    declared one. A list becomes an array. An input with a default may be left out.

    Raises InputError for a missing or unknown name, an unfitting type or shape, a kept value that the input
    does not accept (`check_filling`), NaN, and an id outside the model's table; for a secret input that is no
    mask also for infinity and a real beyond +-2^42.
    """
    _check_names("input", list(feed), list(blueprint.inputs), weight_hint(blueprint, list(feed)))
    feed = {**{n: s.default for n, s in blueprint.inputs.items() if s.default is not None}, **feed}
    missing = [name for name in blueprint.inputs if name not in feed]
    if missing:
        raise InputError(
            f"no value for input {', '.join(repr(n) for n in missing)}",
            f"the model takes {', '.join(blueprint.inputs)}",
        )
    raw = {name: _array(spec, feed[name]) for name, spec in blueprint.inputs.items()}
    check_shapes(blueprint, {name: array.shape for name, array in raw.items()})
    for name, value in raw.items():
        if isinstance(value, Kept):
            check_filling(blueprint.inputs[name], 1, value.name, value.closed)
        else:
            check_filling(blueprint.inputs[name], value.size)
    readers = readers_of(blueprint.graph.nodes, blueprint.outputs)
    return {
        name: value
        if isinstance(value, Kept)
        else _typed(blueprint.inputs[name], value, mask=_is_mask(blueprint, readers, name))
        for name, value in raw.items()
    }


def check_outputs(
    blueprint: Blueprint, names: Sequence[str] | None, keep: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The outputs to open and the outputs to keep, each once.

    names: None opens the model's own outputs, or none if some are kept. Raises InputError for an unknown
    output, for one that may not be opened, and when the caller wants no output at all.
    """
    _check_names("output", [*(names or ()), *keep], list(blueprint.outputs))
    if names is None:
        names = () if keep else blueprint.own_outputs
    check_opened(blueprint, names)
    check_kept(blueprint, keep)
    if not names and not keep:
        raise InputError("no output is wanted", f"name some of {', '.join(blueprint.outputs)}")
    return tuple(dict.fromkeys(names)), tuple(dict.fromkeys(keep))


def check_opened(blueprint: Blueprint, names: Sequence[str]) -> None:
    """InputError for an output that the model's owner lets clients keep but not open."""
    for name in names:
        if name in blueprint.closed:
            raise InputError(
                f"output '{name}' stays at the servers: the model's owner does not let it be opened",
                f"keep it for a later request; outputs to open are {', '.join(blueprint.own_outputs)}",
            )


def check_kept(blueprint: Blueprint, keep: Sequence[str]) -> None:
    """InputError for outputs to keep of a model whose owner adds noise to what leaves it."""
    if keep and blueprint.noised is not None:
        raise InputError(
            f"output '{keep[0]}' cannot be kept: the model's owner adds noise to every answer",
            "open the outputs, and ask for no more than you need: each answer counts",
        )


def check_filling(spec: InputSpec, size: int, held: str | None = None, closed: bool = False) -> None:
    """InputError unless the input may be filled with the kept output `held`, closed or not, or, where that is
    None, with an array of `size` elements.

    An input that resumes closed outputs takes their kept values or an empty array. A kept closed output fills
    no other input: there the client could open what the model computes from it.
    """
    if spec.sources and held is None and size:
        raise InputError(
            f"input '{spec.name}' takes only values kept at the servers, no array",
            f"keep {' or '.join(spec.sources[:3])} in one request and pass it to the next;"
            " begin with an empty array",
        )
    if held is not None and spec.settled and not (spec.name == STATES or paired(spec.name, held)):
        raise InputError(
            f"input '{spec.name}' does not accept the kept '{held}'",
            "it accepts the kept output of its own name; pass any other value as an array",
        )
    if held is not None and held not in spec.sources and (closed or spec.sources):
        accepts = f"accepts {', '.join(spec.sources[:3])}" if spec.sources else "accepts no closed output"
        raise InputError(
            f"input '{spec.name}' does not accept the kept '{held}'",
            f"it {accepts}; the model's owner chooses with --keep-only",
        )


def check_values(plan: Plan, values: Mapping[str, np.ndarray]) -> None:
    """InputError unless every value to be shared is in range; the client computed some of them itself.

    Raises PlanError for a value whose shape differs from the plan's: the number of words sent would depend on
    secret values.
    """
    for entry in plan.inputs:
        if values[entry.name].shape != entry.shape:
            raise PlanError(
                f"the client's value '{entry.name}' has shape {values[entry.name].shape},"
                f" the model declares {entry.shape}",
                "the model declares wrong shapes inside a branch: have its owner export it again",
            )
        if entry.depth:
            _check_ids(entry.name, values[entry.name], entry.depth)
        else:
            real = values[entry.name]
            near = np.where(real <= MASKED, 0, real) if entry.reach else real
            _check_reals(entry.name, near, largest_input(entry.format))
            for need in entry.needs:
                _check_need(entry.name, real, need)


def _check_names(what: str, given: Sequence[str], known: Sequence[str], more: str = "") -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"the model has no {what} '{name}'", f"{hint}it has {', '.join(known)}{more}")


def _array(spec: InputSpec, value: Any) -> np.ndarray | Kept:
    if isinstance(value, Kept):
        return _kept(spec, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"input '{spec.name}' is not an array: {error}", "give a numpy array") from error
    if spec.dtype.kind == "O":
        return _text(spec, array)
    if array.dtype.name == "bfloat16":  # numpy itself lacks this type
        array = array.astype(np.float32)
    if not array.size and not isinstance(value, np.ndarray):
        array = array.astype(spec.dtype)  # an empty list has no type
    widest = np.dtype(np.float64) if spec.dtype.kind == "f" else spec.dtype
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, widest, "safe"):
        raise InputError(
            f"input '{spec.name}' is of type {array.dtype}, the model takes {spec.dtype}",
            f"convert it: array.astype(np.{spec.dtype.name})"
            + (" before saving it: .npy files cannot hold bfloat16" if array.dtype.kind == "V" else ""),
        )
    return array


def _text(spec: InputSpec, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "U" and not all(isinstance(text, str) for text in array.reshape(-1)):
        raise InputError(
            f"input '{spec.name}' is of type {array.dtype}, the model takes text", "give strings"
        )
    return array.astype(object)


def _kept(spec: InputSpec, value: Kept) -> Kept:
    if not spec.secret:
        raise InputError(
            f"input '{spec.name}' is public, the kept '{value.name}' is secret-shared",
            "give the array, or share the model with --secret-input",
        )
    if value.dtype.kind != spec.dtype.kind:
        raise InputError(
            f"input '{spec.name}' takes {spec.dtype}, the kept '{value.name}' is of type {value.dtype}",
            "keep an output of that type",
        )
    return value


def _is_mask(blueprint: Blueprint, readers: Readers, name: str) -> bool:
    graph, public = blueprint.graph, blueprint.public_inputs
    return given_reach(readers, graph, public, name, blueprint.inputs[name].dtype) > 0


def _typed(spec: InputSpec, array: np.ndarray, mask: bool) -> np.ndarray:
    if spec.dtype.kind == "f":
        limit = np.inf if mask or not spec.secret else LARGEST_INPUT
        _check_reals(spec.name, array, limit)
        _check_declared(spec, array)
    elif spec.vocabulary is not None:
        _check_ids(spec.name, array, spec.vocabulary)
    return np.ascontiguousarray(array.astype(spec.dtype)).reshape(array.shape)


def _check_declared(spec: InputSpec, array: np.ndarray) -> None:
    if spec.declared is None or not array.size:
        return
    low, high = spec.declared
    least, most = float(array.min()), float(array.max())
    if least < low or most > high:
        found = least if least < low else most
        raise InputError(
            f"input '{spec.name}' holds {found:g}; the model's owner says that it lies between {low:g} and"
            f" {high:g}",
            "prepare it as the model expects: scaled, or normalised",
        )


def _check_reals(name: str, array: np.ndarray, limit: float) -> None:
    largest = float(np.abs(array.astype(np.float64)).max(initial=0.0))
    if np.isnan(largest) or (np.isinf(largest) and np.isfinite(limit)):
        raise InputError(f"input '{name}' holds NaN or infinity", "replace or remove those values")
    if largest > limit:
        raise InputError(
            f"input '{name}' holds a value of magnitude {largest:g}, beyond {limit:g}",
            "the fixed-point numbers of a secure run end there: scale the input",
        )


_WHAT = {
    "element": "a value of magnitude",
    "below": "a value of",
    "row": "a row of length",
    "deviation": "a row of length, less its mean,",
    "spread": "a row with values apart by",
    "positive": "a value of",
    "nonzero": "a value of magnitude",
}


def _check_need(name: str, array: np.ndarray, need: Need) -> None:
    found = beyond_need(array, need)
    if found is not None:
        raise InputError(
            f"input '{name}' holds {_WHAT[need.kind]} {found:g}; the model is accurate only"
            f" {'from' if need.kind in ('positive', 'nonzero') else 'below'} {need.below:g}",
            "scale the input, or ask the model's owner to calibrate the model with inputs like this",
        )


def _check_ids(name: str, array: np.ndarray, size: int) -> None:
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high >= size:
        raise InputError(
            f"input '{name}' holds the id {low if low < 0 else high}, the model's table ends at {size - 1}",
            "the text is longer than the model has positions: shorten it"
            if "position" in name.lower()
            else "use the tokenizer that belongs to this model; negative ids are not accepted",
        )
