"""The kind of a node, by the values that it reads: who computes it, and how it gets into the plan."""

from __future__ import annotations

from collections.abc import Container, Mapping
from enum import Enum, auto

from onnxpuma.graph.model import Node
from onnxpuma.ops.registry import find
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.walk.lookups import looks_up_ids


class Kind(Enum):
    # Everything it reads is public: it runs while the plan is made, in the clear.
    PUBLIC = auto()
    # It follows from the client's input and public values alone (a position counted from ids, say): the
    # client computes it, which costs nothing and leaks nothing.
    CLIENT = auto()
    # If, Loop, Scan or IsNaN on secrets: other nodes replace it.
    UNROLLED = auto()
    # A look-up at the client's ids: a Gather along the first axis replaces it.
    LOOKUP = auto()
    # A kernel computes it on shares.
    STEP = auto()
    # It has no kernel: the standard's definition of the operator as a function replaces it.
    FUNCTION = auto()
    # It reads a result of a refused node.
    LOST = auto()


def kind_of(node: Node, values: Mapping[str, Known], unknown: Container[str]) -> Kind:
    """The kind of a node. unknown: the outputs of refused nodes; `values` hold all others that it reads."""
    names = node.reads
    if any(name in unknown for name in names):
        return Kind.LOST
    known = [values[name] for name in names]
    of_type = node.op == "CastLike" and known[0].value is not None  # it reads only the other input's type
    if node.traits.of_shape or of_type or all(k.value is not None for k in known):
        return Kind.PUBLIC
    if all(k.value is not None or k.client for k in known):
        return Kind.CLIENT
    if node.traits.unrolled:
        return Kind.UNROLLED
    if looks_up_ids(node, values):
        return Kind.LOOKUP
    return Kind.STEP if find(node) is not None else Kind.FUNCTION
