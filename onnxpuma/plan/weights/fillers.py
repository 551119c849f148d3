"""Masks among the weights: the owner replaces minus infinity in them with a number that fixed point can hold.

A mask that is added to scores need only lie far below each of them. A public mask stands beside the scores
unchanged (ops/beside.py); in a secret one only the owner can see which elements to replace. A table of biases
with masked places was split into two weights earlier (graph/rules/masked_table.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from onnxpuma.graph.model import Graph, Initializer, Node
from onnxpuma.graph.rules.dequantise import lazy
from onnxpuma.ops.registry import find
from onnxpuma.standard.mask_values import MASKED, STORED, STORED_AS_NUMBER, SURELY_MASKED

_PASSES = ("Neg", "Mul", "Div", "Where", "Cast", "Max", "Min", "Clip", "Concat")  # besides sums and layout
_LEAST = 2  # elements; a single number below -10000 may be an ordinary number


def with_fillers(graph: Graph, secret: Collection[str]) -> Graph:
    """The same graph with -2500 in place of minus infinity, in secret arrays that are added or chosen.

    Numbers below -1e8 mean minus infinity, and so does -10000 or less in an array that is zero elsewhere. An
    array that reaches no softmax keeps its numbers down to -2^21, as other operators may read them. The
    arrays are read lazily.
    """
    uses: dict[str, list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        for slot, name in enumerate(node.inputs):
            uses.setdefault(name or "", []).append((node, slot))
    held = dict(graph.initializers)
    for name in secret:
        weight = held[name]
        if weight.dtype == np.float32 and weight.size >= _LEAST and weight.available and _added(name, uses):
            held[name] = _filled(weight, _reaches_softmax(name, uses, set()))
    return replace(graph, initializers=held)


def _added(name: str, uses: dict[str, list[tuple[Node, int]]]) -> bool:
    """Whether all readers of a value, including those behind moves of elements, add or choose it."""
    for node, slot in uses.get(name, []):
        operator = find(node)
        if operator is not None and operator.moves and slot == 0:
            if not all(_added(output, uses) for output in node.outputs if output):
                return False
        elif slot not in node.traits.masks:
            return False
    return name in uses


def _reaches_softmax(name: str, uses: dict[str, list[tuple[Node, int]]], seen: set[str]) -> bool:
    """Whether a softmax reads a value, or a sum, a product or a choice that it enters."""
    for node, _ in uses.get(name, []):
        traits = node.traits
        if traits.scores is not None:
            return True
        if traits.layout or traits.sums or node.op in _PASSES:
            made = [output for output in node.outputs if output and output not in seen]
            seen.update(made)
            if any(_reaches_softmax(output, uses, seen) for output in made):
                return True
    return False


def _filled(weight: Initializer, for_softmax: bool) -> Initializer:
    def read() -> np.ndarray:
        values = np.array(weight.numpy())
        weight.release()
        if not for_softmax:
            return np.maximum(values, np.float32(STORED_AS_NUMBER))
        low = values <= MASKED
        is_mask = low.any() and not low.all() and bool(np.all(low | (values == 0)))
        return np.where(low if is_mask else values < SURELY_MASKED, np.float32(STORED), values)

    return Initializer(weight.name, weight.dtype, weight.shape, lazy(read, weight.shape))
