"""Fraction bits of the weights: an array of small numbers gets more than 18, so that it keeps its digits.

A product takes a weight at any scale and is truncated by as much more, so this costs nothing. Which of the
scales an array has is public: that its largest number lies below 2^-4, 2^-8 and so on, not where. An array
that anything but a product reads, directly or moved about, keeps the 18 bits that all other values have.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

import onnxpuma.ops  # noqa: F401  (registers the operators)
from onnxpuma.graph.model import Graph, Initializer, Node
from onnxpuma.ops.registry import FINEST, FRACTION, find

STEP = 4  # from one scale to the next: the largest number of an array is public up to a factor of 16
_BLOCK = 1 << 20  # elements looked at a time
_LOOKS_UP = ("GatherND", "GatherElements")  # as layout where their indices are public, else by way of Gather

Uses = dict[str, list[tuple[Node, int]]]


def fractions_of(graph: Graph, secret: Collection[str]) -> dict[str, int]:
    """Secret initializer -> its fraction bits, where they are more than 18.

    Reads each array that products alone read, no further than to its first number of ordinary size.
    """
    uses: Uses = {}
    elsewhere = set(graph.outputs)
    for node in graph.nodes:
        for slot, name in enumerate(node.inputs):
            if name:
                uses.setdefault(name, []).append((node, slot))
        elsewhere.update(name for inner in node.subgraphs for name in inner.captured())
    found = {}
    for name in secret:
        initializer = graph.initializers[name]
        if initializer.dtype.kind != "f" or not initializer.available or not uses.get(name):
            continue
        most = _most(name, uses, elsewhere)
        if most >= FRACTION + STEP:
            fraction = min(most, FRACTION + _spare(initializer))
            if fraction > FRACTION:
                found[name] = FRACTION + (fraction - FRACTION) // STEP * STEP
    return found


def _most(name: str, uses: Uses, elsewhere: Collection[str]) -> int:
    """The most fraction bits that all readers of a value take."""
    if name in elsewhere:
        return FRACTION
    most = FINEST
    for node, slot in uses.get(name, []):
        operator = find(node)
        if node.op in ("Shape", "Size") and not node.domain:
            continue
        if operator is None:
            return FRACTION
        if operator.layout and slot == 0 and node.op not in _LOOKS_UP:
            reached = [_most(output, uses, elsewhere) for output in node.outputs if output]
            most = min([most, *reached])
        else:
            most = min(most, operator.fine(node).get(slot, FRACTION))
    return most


def _spare(initializer: Initializer) -> int:
    """The largest k for which all numbers are below 2^-k in magnitude; 0 for those of ordinary size."""
    flat = initializer.numpy().reshape(-1)
    largest = 0.0
    for start in range(0, flat.size, _BLOCK):
        largest = max(largest, float(np.abs(flat[start : start + _BLOCK]).max()))
        if not largest < 2.0**-STEP:
            break
    del flat
    initializer.release()
    if not 0 < largest < 2.0**-STEP:
        return 0
    return -math.floor(math.log2(largest)) - 1
