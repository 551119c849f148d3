"""Graphs of one constant and the nodes that read it, and the verdict on that constant."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.finding import Finding
from onnxpuma.graph.model import Graph, Initializer, Node, ValueType
from onnxpuma.graph.visibility import classify

FLOAT = np.float32

RANDOM = np.random.default_rng(3)


def initializer(name: str, values: object) -> Initializer:
    array = np.asarray(values)
    return Initializer(name, array.dtype, array.shape, ir.tensor(array))


def graph(values: object, *nodes: Node) -> Graph:
    inputs = {"x": ValueType(np.dtype(FLOAT), None), "ids": ValueType(np.dtype(np.int64), None)}
    return Graph("g", inputs, {}, list(nodes), {"w": initializer("w", values)}, 24)


def seen(values: object, *nodes: Node) -> Finding:
    return classify(graph(values, *nodes))["w"]


def node(op: str, inputs: tuple[str, ...], output: str = "y") -> Node:
    return Node(f"{op} {output}", op, "", 1, inputs, (output,))


WEIGHT = Finding("secret", "weight")

PRODUCT = node("MatMul", ("x", "w"))


def waves(rows: int, columns: int) -> np.ndarray:
    angles = np.arange(rows)[:, None] / 10000 ** (np.arange(columns // 2) / (columns // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
