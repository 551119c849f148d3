"""A value as the planner knows it before anything runs: its type, and which parties will know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node, ValueType
from onnxpuma.mpc.format import Format
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.registry import Operand, altered, resting_of


@dataclass(frozen=True)
class Known:
    """A public value (`value`), one that only the client knows (`client`), or a secret one (`operand`)."""

    type: ValueType
    value: np.ndarray | None = None
    client: bool = False
    operand: Operand | None = None
    # The same for every request.
    constant: bool = True
    # The bound of a client's value; a secret one carries its bound in `operand`.
    bound: Bound = UNKNOWN

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.type)

    def public(self, name: str) -> Operand:
        """The operand of a public value."""
        return altered(self._public, name=name)

    @cached_property
    def _public(self) -> Operand:
        made = Operand("public", self.shape, self.type.dtype, self.value)
        assert made.content  # it is the same under every name
        return made

    def sample(self) -> np.ndarray:
        """An array of this type and shape: the value itself where it is public, else zeros."""
        if self.value is not None:
            return self.value
        return np.zeros([int(d) for d in self.type.shape or () if d is not None], self.type.dtype)


class Values(dict[str, Known]):
    """The values of a plan by name. It notes which are read, as they were, and which are set."""

    def __init__(self) -> None:
        super().__init__()
        self._read: dict[str, Known | None] = {}
        self._made: dict[str, Known] = {}
        self.held = super().get  # reads a value, or None, without a note

    def noted(self) -> tuple[dict[str, Known | None], dict[str, Known]]:
        """Begin anew: the values that are read from here on before they are set, and those that are set."""
        self._read, self._made = {}, {}
        return self._read, self._made

    def noted_apart(self) -> dict[str, Known | None]:
        """The values that are read from here on before they are set, whether they were read before or not."""
        self._read = {}
        return self._read

    def _note(self, name: str) -> None:
        if name not in self._read and name not in self._made:
            self._read[name] = self.held(name)

    def __getitem__(self, name: str) -> Known:
        self._note(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._note(str(name))
        return super().__contains__(name)

    def __setitem__(self, name: str, known: Known) -> None:
        self._made[name] = known
        super().__setitem__(name, known)


def shape_of(kind: ValueType) -> tuple[int, ...]:
    """The extents of a type whose shape is concrete, as all types of a plan are."""
    return tuple(int(d) for d in kind.shape or ())  # type: ignore[arg-type]


def given_types(values: Mapping[str, Known], node: Node) -> list[ValueType | None]:
    """The types of a node's inputs; None for an input that it leaves out."""
    return [None if name is None else values[name].type for name in node.inputs]


def draft_operand(name: str, kind: ValueType, reals: Format) -> Operand:
    """A secret operand of this type, of which nothing else is known yet. reals: the format of real ones."""
    resting = resting_of(kind.dtype, reals)
    return Operand(name, shape_of(kind), kind.dtype, format=resting, resting=resting)


def expected(values: Mapping[str, Known], name: str | None, reals: Format) -> Operand | None:
    """An input of a node that is planned later. A value not known yet counts as secret, and as no mask."""
    if name is None:
        return None
    known = values.get(name)
    if known is None:
        return altered(_not_known(reals), name=name)
    if known.operand is not None:
        return known.operand
    if known.value is not None:
        return known.public(name)
    return Operand(name, tuple(known.type.shape or ()), known.type.dtype)  # type: ignore[arg-type]


@lru_cache
def _not_known(reals: Format) -> Operand:
    made = Operand("not known", (), np.dtype(np.float32), format=reals, resting=reals)
    assert made.content  # as in `Known`
    return made
