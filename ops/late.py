"""Late public inputs: numbers that a plan and a program leave open, as other requests have others.

A table of a rotary embedding belongs to a position, and a mask says how much of a cache is padding: both are
public, and change with every token. Their steps do the same for all of them. So planning sees of them only
what `seen` says, and a kernel gets them as words, like an input, which a program may read anew in each run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.forms import PublicWords
from onnxpuma.ops.call import Use, Value, altered

Given: TypeAlias = "Sequence[np.ndarray | None]"
Shapes: TypeAlias = "Sequence[tuple[int, ...] | None]"
LateValue: TypeAlias = "Value | PublicWords"  # an operand of a kernel that has late inputs
T = TypeVar("T")
_Use = TypeVar("_Use", bound=Use)


@dataclass(frozen=True)
class Late:
    """How an operator reads its late inputs."""

    # The places of these inputs. All of them are late in a use, or none is.
    places: tuple[int, ...]
    # All that counts of their numbers (the first argument after the node), besides type and shape: inputs of
    # which it is equal are planned alike. None: more of them counts, and they are not late. It also gets the
    # shapes of all inputs, None where one is absent or not known yet.
    seen: Callable[[Node, Given, Shapes], Hashable]
    # The words that the kernel gets in their places, by place.
    words: Callable[[Use], Sequence[PublicWords]]


def with_seen(use: _Use, late: Late | None) -> _Use:
    """The use, its late inputs marked."""
    if late is None or any(use.public(place) is None for place in late.places):
        return use
    shapes = [None if o is None else o.shape for o in use.inputs]
    seen = late.seen(use.node, [use.public(place) for place in late.places], shapes)
    if seen is None:
        return use
    inputs = list(use.inputs)
    for place in late.places:
        inputs[place] = altered(use.given(place), seen=seen)
    return altered(use, inputs=tuple(inputs))


def is_late(use: Use, late: Late) -> bool:
    """Whether a use takes its late inputs as words."""
    operand = use.operand(late.places[0])
    return operand is not None and operand.seen is not None


def inputs_at(inputs: Sequence[T | None], places: Sequence[int]) -> list[T | None]:
    """The inputs at these places, None where there is none."""
    return [inputs[place] if place < len(inputs) else None for place in places]
