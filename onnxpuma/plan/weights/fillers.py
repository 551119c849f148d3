"""Masks among the weights: what stands for minus infinity in them becomes a number that fixed point holds.

A mask that is added to scores only has to be far below each of them; a public one stands beside the scores
as it is (ops/beside.py). In a secret one the owner puts the number, as nobody else sees which elements it is
for.
A table of biases with masked places is two weights before (graph/rules/masked_table.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from onnxpuma.graph.model import Graph, Initializer, Node
from onnxpuma.graph.rules.dequantise import lazy
from onnxpuma.ops.registry import find

_ADDS = {"Add": (0, 1), "Sub": (0,), "Sum": range(1 << 10), "Where": (1, 2), "Attention": (3,)}
_BELOW = -1e8  # a number below it is a mask
_FROM = -1e4  # and so is one of nothing but zeros and numbers from here down
_MASKED = -2500.0  # three of them and the scores stay inside what Softmax can tell apart
_FURTHEST = -(2.0**21)  # of what others than softmaxes read: they take nearer numbers as they are
_SOFTMAXES = ("Softmax", "LogSoftmax", "ReduceLogSumExp", "Attention")
_PASSES = ("Add", "Sub", "Sum", "Neg", "Mul", "Div", "Where", "Cast", "Concat", "Max", "Min", "Clip")
_LEAST = 2  # elements: a lone number below -10000 may be a number


def with_fillers(graph: Graph, secret: Collection[str]) -> Graph:
    """The same graph, in which secret arrays that are added, or chosen, have -2500 for what is lower than all
    scores: for all that is below -1e8, and for -10000 and less where there is nothing else but zeros. Where
    no softmax reads what they are added to, they have -2^21 for all that is lower. They are read when they
    are asked for."""
    uses: dict[str, list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        for slot, name in enumerate(node.inputs):
            uses.setdefault(name or "", []).append((node, slot))
    held = dict(graph.initializers)
    for name in secret:
        weight = held[name]
        if weight.dtype == np.float32 and weight.size >= _LEAST and weight.available and _added(name, uses):
            held[name] = _filled(weight, _read_by_softmax(name, uses, set()))
    return replace(graph, initializers=held)


def _added(name: str, uses: dict[str, list[tuple[Node, int]]]) -> bool:
    """Whether all that reads a value, where it stands or moved about, adds or chooses it."""
    for node, slot in uses.get(name, []):
        operator = find(node)
        if operator is not None and operator.layout and slot == 0:
            if not all(_added(output, uses) for output in node.outputs if output):
                return False
        elif node.domain or slot not in _ADDS.get(node.op, ()):
            return False
    return name in uses


def _read_by_softmax(name: str, uses: dict[str, list[tuple[Node, int]]], seen: set[str]) -> bool:
    """Whether a softmax reads a value, or what sums, products, choices and layout make of it."""
    for node, _ in uses.get(name, []):
        if node.op in _SOFTMAXES:
            return True
        operator = find(node)
        if operator is not None and (operator.layout or node.op in _PASSES):
            made = [output for output in node.outputs if output and output not in seen]
            seen.update(made)
            if any(_read_by_softmax(output, uses, seen) for output in made):
                return True
    return False


def _filled(weight: Initializer, for_softmax: bool) -> Initializer:
    def read() -> np.ndarray:
        values = np.array(weight.numpy())
        weight.release()
        if not for_softmax:
            return np.maximum(values, np.float32(_FURTHEST))
        low = values <= _FROM
        is_mask = low.any() and not low.all() and bool(np.all(low | (values == 0)))
        return np.where(low if is_mask else values < _BELOW, np.float32(_MASKED), values)

    return Initializer(weight.name, weight.dtype, weight.shape, lazy(read, weight.shape))
