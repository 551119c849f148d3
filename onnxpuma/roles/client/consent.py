"""Which inputs a client lets the servers see: those that it names, and those that can only be structure.

The model's owner decides which inputs are public, but the client need not trust the owner. So the client
looks each public input up in its own list of conventional names (plan/inputs/roles.py) and checks that the
values fit the name: zeros and ones for a mask, numbers that count up for positions. The servers see any other
input only if the client names it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.patterns import picked
from onnxpuma.graph.sampling import NEUTRAL, PARAMETERS_INPUT
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.roles import Role, role_of
from onnxpuma.plan.inputs.spec import InputSpec
from onnxpuma.roles.request.kept import Kept

LARGEST_TOKEN_TYPE = 4  # XLNet's fifth is its padding
MOST_SEGMENTS = 4
FIRST_POSITION = 2  # RoBERTa counts from here


def check_consent(
    blueprint: Blueprint, fed: Mapping[str, np.ndarray | Kept], allowed: Collection[str] = ()
) -> None:
    """InputError unless the client consents to every input that the servers would see.

    fed: checked by feed.check_feed. allowed: names, or patterns on them, that the client itself gave.
    """
    longest = max((extent for value in fed.values() for extent in value.shape), default=0)
    for name in blueprint.public_inputs:
        value = fed[name]
        if isinstance(value, Kept) or value.size == 0 or is_named(name, allowed):
            continue
        spec = blueprint.inputs[name]
        if name in blueprint.derived_inputs and (_suppresses(blueprint, spec) or _steers(spec)):
            continue
        role = role_of(name, spec.dtype, spec.vocabulary)
        if role is None:
            why = f"masks, positions and token types have other names and types (it is of {spec.dtype})"
        elif not _holds(role, value, longest):
            why = f"it does not hold {_EXPECTED[role]}"
        else:
            continue
        raise InputError(
            f"the model's owner made the input '{name}' public: the three servers would see it, and {why}",
            f"if they may see it, say so: --public-input {name}, in Python public_inputs=['{name}'];"
            " otherwise have the owner share the model with --secret-input",
        )


def check_named(allowed: Iterable[str], inputs: Sequence[str]) -> None:
    """InputError for a name or pattern that matches none of the model's inputs."""
    for name in allowed:
        if not any(is_named(known, (name,)) for known in inputs):
            near = difflib.get_close_matches(name, inputs, 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(
                f"the model has no input '{name}' that could be public", f"{hint}it has {', '.join(inputs)}"
            )


def is_named(name: str, allowed: Iterable[str]) -> bool:
    """Whether one of these names or patterns matches the input."""
    return any(picked((name,), given) for given in allowed)


def _suppresses(blueprint: Blueprint, spec: InputSpec) -> bool:
    """Whether the derived input is the one that this package adds: ids to suppress in the row of logits."""
    readers = [
        (n.op, place) for n in blueprint.graph.nodes for place, i in enumerate(n.inputs) if i == spec.name
    ]
    return spec.dtype.kind == "i" and set(readers) <= {("Shape", 0), ("ScatterElements", 1)}


def _steers(spec: InputSpec) -> bool:
    """Whether the derived input is the one with the parameters of sampling, which the client chooses."""
    return spec.name == PARAMETERS_INPUT and spec.shape == (len(NEUTRAL),)


_EXPECTED: dict[Role, str] = {
    "mask": "zeros and ones, as a mask does",
    "token types": "a few runs of small numbers, as token types do",
    "positions": "numbers that count up, as positions do",
    "length": "a number up to the longest axis of an input, as a length does",
    "choice": "true or false, as a choice does",
}


def _holds(role: Role, value: np.ndarray, longest: int) -> bool:
    """Whether the values reveal no more than this role requires: where something stands, how long it is."""
    numbers = value.astype(np.int64)
    if role == "mask":
        return bool(np.all((numbers == 0) | (numbers == 1)))
    if role == "choice":
        return value.size == 1 and int(numbers.reshape(-1)[0]) in (0, 1)
    if role == "length":  # one for all texts, or one for each
        if max(value.shape, default=1) != value.size:
            return False
        return bool(np.all((numbers >= 0) & (numbers <= longest)))
    rows = numbers.reshape(-1, numbers.shape[-1] if numbers.ndim else 1)
    if role == "token types":
        runs = np.count_nonzero(np.diff(rows, axis=1), axis=1) + 1
        small = bool(np.all((rows >= 0) & (rows <= LARGEST_TOKEN_TYPE)))
        return value.ndim <= 2 and small and int(runs.max()) <= MOST_SEGMENTS
    return all(_counts_up(row, longest + FIRST_POSITION) for row in np.unique(rows, axis=0))


def _counts_up(row: np.ndarray, bound: int) -> bool:
    """Whether a row is n, n + 1, ... between paddings: zeros, ones, at the end also the last position."""
    begin, end = 0, len(row)
    while end - begin > 1 and row[begin] in (0, 1) and row[begin + 1] != row[begin] + 1:
        begin += 1
    while end - begin > 1 and row[end - 1] in (0, 1, row[end - 2]) and row[end - 1] != row[end - 2] + 1:
        end -= 1
    core = row[begin:end]
    return 0 <= core[0] <= bound and bool(np.all(np.diff(core) == 1))
