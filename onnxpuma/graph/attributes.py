"""Attributes of nodes that training may have set: they cannot be secret, so the owner is asked.

Weights are inputs of nodes; an attribute belongs to the graph that everybody sees. Yet some operators keep
trained numbers there: words and their weights, trees, linear models, an activation's slope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from onnxpuma.graph.finding import Finding
from onnxpuma.graph.index_tables import form_of
from onnxpuma.graph.model import Attribute, Graph, Node
from onnxpuma.graph.patterns import picked
from onnxpuma.graph.round_numbers import is_root_of, is_round
from onnxpuma.graph.slots import inner_nodes

FEW = 16
_LONGEST_TEXT = 256
# Domains whose operators store trained values in attributes.
_TRAINED_DOMAINS = ("ai.onnx.ml", "ai.onnx.preview.training")
# Names of functions.
_TEXTS = ("activations",)
# The factor of scores: one over the root of a width, rounded to the model's kind of float.
_SCALES = ("Attention", "scale")
_WIDTHS = range(4, 1025, 4)


def named_attributes(graph: Graph) -> Iterator[tuple[str, Node, np.ndarray]]:
    """Every attribute of numbers or texts: "node.attribute", the node, its values as an array."""
    for node in inner_nodes(graph.nodes):
        for name, value in node.attributes.items():
            array = _array(value)
            if array is not None:
                yield f"{node.name}.{name}", node, array


def _array(value: Attribute) -> np.ndarray | None:
    if isinstance(value, Graph) or (isinstance(value, list) and any(isinstance(v, Graph) for v in value)):
        return None
    if isinstance(value, list) and any(isinstance(v, np.ndarray) for v in value):
        return np.concatenate([np.asarray(v).reshape(-1) for v in value])
    if isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float)):
        return np.asarray(value, np.float32)
    return np.asarray(value)


def classify_attributes(graph: Graph, public: Sequence[str] = ()) -> dict[str, Finding]:
    """ "node.attribute" -> its finding, for attributes that are not plainly architecture.

    All are public; each is doubtful unless a pattern in `public` names the attribute or its node.
    """
    found = {}
    for name, node, values in named_attributes(graph):
        reason = _doubt(name.rpartition(".")[2], node, values)
        if reason is None:
            continue
        pattern = next((p for p in public if picked((name, node.name), p)), None)
        if pattern is None:
            found[name] = Finding("public", reason, doubtful=True)
        else:
            found[name] = Finding("public", f"pattern '{pattern}'")
    return found


def attribute_names(graph: Graph) -> list[str]:
    """The names that a pattern may match: the attributes, and their nodes."""
    return [n for name, node, _ in named_attributes(graph) for n in (name, node.name)]


def _doubt(name: str, node: Node, values: np.ndarray) -> str | None:
    """Why an attribute may have been trained; None where it is architecture."""
    operator = f"{node.domain}::{node.op}" if node.domain else node.op
    if values.dtype.kind in "OUS":
        return _doubt_of_text(name, node, values, operator)
    if values.size == 0:
        return None
    if values.dtype.kind in "iub":
        many = values.size > FEW or (node.domain in _TRAINED_DOMAINS and values.size > 1)
        return f"whole numbers in an attribute of {operator}" if many and form_of(values) is None else None
    if values.size == 1 and (values.ndim == 0 or not _keeps_training(node)):
        number = float(values.reshape(()))
        if is_round(number) or _is_default(name, node, number) or _is_scale(name, node, number):
            return None
        return f"a number in an attribute of {operator}"
    if not _keeps_training(node) and all(is_round(float(v)) for v in values.reshape(-1)[: FEW + 1]):
        return None if values.size <= FEW else f"numbers in an attribute of {operator}"
    return f"numbers in an attribute of {operator}"


def _keeps_training(node: Node) -> bool:
    return node.domain in _TRAINED_DOMAINS or node.traits.trained_attributes


def _doubt_of_text(name: str, node: Node, values: np.ndarray, operator: str) -> str | None:
    if values.size == 1 and values.ndim == 0:
        long = len(str(values.reshape(())[()])) > _LONGEST_TEXT
        return f"a long text in an attribute of {operator}" if long else None
    return None if name in _TEXTS or not values.size else f"texts in an attribute of {operator}"


def _is_default(name: str, node: Node, number: float) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op, node.version, node.domain)
    except onnx.defs.SchemaError:
        return False
    declared = schema.attributes.get(name)
    if declared is None or not declared.default_value.HasField("f"):
        return False
    return bool(np.float32(declared.default_value.f) == np.float32(number))


def _is_scale(name: str, node: Node, number: float) -> bool:
    if (node.op, name) != _SCALES:
        return False
    return any(is_root_of(n, width) for width in _WIDTHS for n in (number, abs(number) ** 0.5))
