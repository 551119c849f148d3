"""What an operand or a call is, apart from names: one object for all that are alike.

The layers of a model ask the same again and again: what does this use cost, which bound has its result? The
answers depend on everything but names, so they are found once and noted here. An object lives as long as an
operand or a call that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from onnxpuma.graph.model import Node

SMALL = 4096  # bytes of an array that is compared by its numbers; a larger one is only equal to itself

_Answer = TypeVar("_Answer")


class Content:
    """All of an operand or a call but names. Equal for two that are alike, by identity."""

    __slots__ = ("__weakref__", "found")

    def __init__(self) -> None:
        self.found: dict[Hashable, Any] = {}

    def once(self, question: Hashable, answer: Callable[[], _Answer]) -> _Answer:
        """What `answer` found for an operand or call of this content first. It must not depend on names, nor
        be altered."""
        if question not in self.found:
            self.found[question] = answer()
        return cast(_Answer, self.found[question])


class HasContent(Protocol):
    """An operand or a call."""

    @property
    def content(self) -> Content: ...


_contents: WeakValueDictionary[Hashable, Content] = WeakValueDictionary()
_nodes: WeakKeyDictionary[Node, Content] = WeakKeyDictionary()


def content_of(key: Hashable) -> Content:
    """The content that this key stands for."""
    found = _contents.get(key)
    return _contents.setdefault(key, Content()) if found is None else found


def content_of_node(node: Node) -> Content:
    """That of an operator with its attributes."""
    found = _nodes.get(node)
    if found is None:
        ends = tuple(map(bool, node.inputs)), tuple(map(bool, node.outputs))
        key = "node", node.op, node.domain, node.version, node.attribute_key, ends
        found = _nodes[node] = content_of(key)
    return found


class _Itself:
    """Stands for a large array."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.array is other.array

    def __hash__(self) -> int:
        return id(self.array)


def key_of_array(array: np.ndarray | None) -> Hashable:
    """Equal for two arrays that are the same, and for small ones of the same numbers, type and shape."""
    if array is None:
        return None
    if array.nbytes > SMALL or array.dtype.kind == "O":
        return _Itself(array)
    return array.dtype.str, array.shape, array.tobytes()
