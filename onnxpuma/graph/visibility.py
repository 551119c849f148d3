"""Which constants of a model are weights (secret) and which are its architecture (public).

Public: integers and booleans (shapes, axes, indices), single numbers, rotary frequencies, tables of sines
and cosines of positions, masks, positions counted up, scales that were folded away. Everything else that is
a float is a weight. A name alone never makes a weight public; the two lists of patterns do, either way,
because the model's owner wrote them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Graph, Initializer, Node
from onnxpuma.graph.patterns import picked

Visibility = Literal["secret", "public"]
Uses = dict[str, list[tuple[Node, int]]]

# Where an operator expects a weight: there even a single number is one (a head with one output has one bias).
_WEIGHT_SLOTS = {
    "MatMul": (0, 1),
    "Gemm": (0, 1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "BatchNormalization": (1, 2, 3, 4),
}
# A scale that canonicalising put in, of ones: it scales nothing, and known to be so it saves the product.
# Ones that a model brings are weights like others: what a weight's values are decides nothing.
ONES = "onnxpuma.ones."
_SCALE_SLOTS = (("LayerNormalization", 1), ("RMSNormalization", 1))
_LINEAR = ("MatMul", "Gemm", "Conv", "ConvTranspose")
# Integers that are weights after all: quantised ones.
_QUANTISED_SLOTS = {
    "DequantizeLinear": (0,),
    "MatMulInteger": (0, 1),
    "ConvInteger": (1,),
    "QLinearMatMul": (0, 3),
    "QLinearConv": (3, 8),
}
_TOWARDS_ANGLES = (
    "Mul",
    "MatMul",
    "Cast",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Expand",
    "Transpose",
    "Concat",
)
_KINDS = {"i": "integers", "u": "integers", "b": "booleans"}
_MASKED_BELOW = -1e4
# A table of positions or a mask is smaller than this; a larger array is not looked into.
_LARGEST_READ = 1 << 24


def classify(
    graph: Graph,
    public: Sequence[str] = (),
    secret: Sequence[str] = (),
    unmatched: set[str] | None = None,
) -> dict[str, tuple[Visibility, str]]:
    """Initializer name -> (visibility, reason), in the graph's order.

    `public` and `secret` are glob patterns on initializer names that overrule the rules; where both match,
    secret wins. Reads of a weight no more than it takes to see that it is one. Raises ConfigError for a
    pattern that matches no initializer: misspelt, it would leave open what was to be kept secret. Where
    `unmatched` is given such patterns are put there instead.
    """
    picks = {pattern: picked(graph.initializers, pattern) for pattern in (*public, *secret)}
    for pattern, names in picks.items():
        if names:
            continue
        if unmatched is not None:
            unmatched.add(pattern)
        else:
            raise ConfigError(
                f"the pattern '{pattern}' matches no weight of the model",
                "onnxpuma inspect lists the names; quote the pattern in a shell",
            )
    uses: Uses = defaultdict(list)
    for node in graph.nodes:
        for slot, name in enumerate(node.inputs):
            if name:
                uses[name].append((node, slot))
    producers = {out: node for node in graph.nodes for out in node.outputs}
    found: dict[str, tuple[Visibility, str]] = {}
    for name, initializer in graph.initializers.items():
        by_secret = next((p for p in secret if name in picks[p]), None)
        by_public = next((p for p in public if name in picks[p]), None)
        if by_secret is not None:
            found[name] = ("secret", f"pattern '{by_secret}'")
        elif by_public is not None:
            found[name] = ("public", f"pattern '{by_public}'")
        elif not initializer.available:
            found[name] = ("secret", "not in this file")
        else:
            found[name] = _by_rule(initializer, graph, uses, producers)
            initializer.release()
    return found


def _by_rule(
    initializer: Initializer, graph: Graph, uses: Uses, producers: dict[str, Node]
) -> tuple[Visibility, str]:
    used = uses.get(initializer.name, [])
    if initializer.dtype.kind in "iubOUS":
        if any(slot in _QUANTISED_SLOTS.get(node.op, ()) for node, slot in used):
            return "secret", "quantised weight"
        return "public", _KINDS.get(initializer.dtype.kind, "text")
    if initializer.size == 0:
        return "public", "empty"
    if initializer.size == 1:
        if any(_is_weight_slot(node, slot, initializer, producers) for node, slot in used):
            return "secret", "weight"
        return "public", "one number"
    if initializer.size > _LARGEST_READ:
        return "secret", "weight"
    values = initializer.numpy()
    only_scales = bool(used) and all((n.op, slot) in _SCALE_SLOTS for n, slot in used)
    if initializer.name.startswith(ONES) and only_scales and bool(np.all(values == 1)):
        return "public", "ones"
    if _is_mask(values):
        return "public", "mask"
    if _counts_up(values):
        return "public", "positions"
    if _is_wave_table(values):
        return "public", "sines and cosines of positions"
    if _is_falling(values) and _only_towards_angles(initializer.name, graph, uses):
        return "public", "rotary frequencies"
    return "secret", "weight"


def _is_weight_slot(node: Node, slot: int, initializer: Initializer, producers: dict[str, Node]) -> bool:
    if slot in _WEIGHT_SLOTS.get(node.op, ()):
        return True
    if node.op != "Add" or not initializer.shape:
        return False
    other = producers.get(node.inputs[1 - slot] or "")
    return other is not None and other.op in _LINEAR


def _is_mask(values: np.ndarray) -> bool:
    """Zeros and one large negative number (or minus infinity), or ones in a triangle; at least two axes."""
    if values.ndim < 2 or values.shape[-1] < 2:
        return False

    def masks_by_sum(part: np.ndarray) -> bool:
        return bool(np.all((part == 0) | (part <= _MASKED_BELOW)))

    if masks_by_sum(values.reshape(-1)[:64]):
        return masks_by_sum(values) and bool(np.any(values != 0))
    rows, columns = values.shape[-2:]
    if rows < 2 or rows != columns:
        return False
    for triangle in (np.tri(rows, k=0), np.tri(rows, k=0).T, np.tri(rows, k=-1), np.tri(rows, k=-1).T):
        if np.array_equal(values[..., :4, :4], np.broadcast_to(triangle[:4, :4], values[..., :4, :4].shape)):
            return bool(np.all(values == triangle))
    return False


def _counts_up(values: np.ndarray) -> bool:
    """0, 1, 2, ... or another start, at least three of them."""
    flat = values.reshape(-1)
    return flat.size >= 3 and bool(np.all(np.diff(flat[:64]) == 1)) and bool(np.all(np.diff(flat) == 1))


def _is_wave_table(values: np.ndarray) -> bool:
    """Columns cos(f p) or sin(f p) over positions p = 0, 1, 2, ...: each obeys x[p+1] + x[p-1] = k x[p]."""
    table = values.reshape([n for n in values.shape if n != 1] or [1])
    if table.ndim != 2 or table.shape[0] < 8:
        return False
    first = table[0].astype(np.float64)
    if not np.all((np.abs(first) < 1e-3) | (np.abs(first - 1) < 1e-3)):
        return False
    x = table.astype(np.float64)
    if not np.any(x[1:]) or np.max(np.abs(x)) > 1.001:
        return False
    neighbours, middle = x[2:] + x[:-2], x[1:-1]
    k = np.sum(neighbours * middle, axis=0) / np.maximum(np.sum(middle * middle, axis=0), 1e-12)
    return bool(np.min(k) < 1.99 and np.all(np.abs(neighbours - k * middle) < 4e-3))


def _is_falling(values: np.ndarray) -> bool:
    """A vector that falls from at most one towards zero."""
    if max(values.shape) != values.size or values.size > 4096:
        return False
    flat = values.reshape(-1).astype(np.float64)
    return bool(flat[0] <= 1.0001 and flat[-1] > 0 and np.all(np.diff(flat) < 0))


def _only_towards_angles(name: str, graph: Graph, uses: Uses) -> bool:
    """True when all that is computed from the value, by scaling and layout alone, ends in Cos or Sin."""
    todo, seen, ended = [name], {name}, False
    while todo:
        value = todo.pop()
        if value in graph.outputs or not uses.get(value):
            return False
        for node, _ in uses[value]:
            if node.op in ("Cos", "Sin"):
                ended = True
            elif node.op in _TOWARDS_ANGLES:
                todo += [o for o in node.outputs if o not in seen]
                seen.update(node.outputs)
            else:
                return False
    return ended
