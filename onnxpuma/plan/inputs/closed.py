"""Inputs that continue closed outputs, which no client may open: only kept values may fill these inputs.

A closed output would be worth little if a client could put its own numbers in its place, or pass it to
another input and open a result computed from it there. So inputs and closed outputs are paired: by the words
of their names, except those that distinguish past from present; by the name of the encoder's states; and by
the owner, whose patterns may name inputs too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Graph, ValueType
from onnxpuma.graph.patterns import matching, picked
from onnxpuma.plan.inputs.roles import tables

STATES = "encoder_hidden_states"
"""A decoder's name for the encoder's result, whatever the encoder calls it."""

_CACHE = re.compile(r"(past|present)_keys?_values?", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+|\d+")
_TIMES = frozenset(["past", "present", "prev", "previous", "next", "new", "old", "updated"])
_SIDES = frozenset(["in", "out", "input", "output", "initial", "final"])
_STATES = frozenset(
    ["state", "states", "cache", "caches", "hidden", "memory", "mem", "kv", "key", "keys", "value", "values"]
) | frozenset(["h", "c"])


def shared_inputs(graph: Graph, public: Collection[str]) -> dict[str, ValueType]:
    """The inputs that a client shares as words: neither public ones nor ids."""
    ids = tables(graph)
    return {name: kind for name, kind in graph.inputs.items() if name not in public and name not in ids}


def closed_outputs(
    graph: Graph, public: Collection[str], patterns: Sequence[str], unmatched: set[str] | None = None
) -> list[str]:
    """The outputs that a pattern matches. A pattern may also match an input that a client shares.

    Raises ConfigError as `matching`, and for an input without any closed output to continue.
    """
    inputs = [name for name in shared_inputs(graph, public) if any(picked((name,), p) for p in patterns)]
    for_outputs = [p for p in patterns if not picked(inputs, p)]
    matching("output", list(graph.outputs), for_outputs, unmatched)
    closed = [name for name in graph.outputs if any(picked((name,), p) for p in patterns)]
    if inputs and not closed and unmatched is None:
        raise ConfigError(
            f"the input '{inputs[0]}' has no output to continue: no output is kept and not opened",
            "name the output that is passed to it with --keep-only as well",
        )
    return closed


def resumed_inputs(
    inputs: Mapping[str, ValueType],
    closed: Sequence[tuple[str, ValueType]],
    patterns: Sequence[str] = (),
    states: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Input -> the closed outputs that it continues, for inputs that continue any.

    inputs: those that a client shares, without ids. closed: the closed outputs of all graphs of the model.
    patterns: an input that one matches continues the outputs that fit its name, or all where none does.
    states: the closed outputs of the encoder.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, kind in inputs.items():
        fitting = [o for o, made in closed if _fits(kind, made) and paired(name, o)]
        if name == STATES:
            fitting += [o for o, made in closed if o in states and _fits(kind, made)]
        if not fitting and any(picked((name,), pattern) for pattern in patterns):
            fitting = [o for o, made in closed if made.dtype.kind == kind.dtype.kind]
        if fitting:
            found[name] = tuple(dict.fromkeys(fitting))
    return found


def paired(name: str, output: str) -> bool:
    """Whether two names differ only in words for past and present, or for input and output."""
    if name == output:
        return True
    ours, theirs = _words(name), _words(output)
    rest = [w for w in ours if w not in _TIMES | _SIDES]
    if rest != [w for w in theirs if w not in _TIMES | _SIDES]:
        return False
    if _TIMES & {*ours, *theirs}:
        return bool(rest) or bool(_TIMES & set(ours) and _TIMES & set(theirs))
    return bool(_STATES & set(rest))


def _words(name: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _CACHE.sub(r"\1", name))
    return _WORD.findall(parted.lower())


def _fits(one: ValueType, other: ValueType) -> bool:
    """Whether a value can be of both types."""
    if one.dtype.kind != other.dtype.kind:
        return False
    if one.shape is None or other.shape is None:
        return True
    if len(one.shape) != len(other.shape):
        return False
    pairs = zip(one.shape, other.shape, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
