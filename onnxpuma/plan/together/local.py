"""Steps beside those of a graph: they bring values together, and take them apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxpuma.graph.model import Node
from onnxpuma.ops.registry import Call, Operand, Operator
from onnxpuma.ops.side_by_side import DOMAIN
from onnxpuma.plan.plan import Step


def local_step(
    operator: Operator, inputs: Sequence[Operand], made: Operand, attributes: Mapping[str, Any], opset: int
) -> Step:
    """A step of an operator of ops/side_by_side.py, still without its place in a plan."""
    read = tuple(operand.name for operand in inputs)
    node = Node(made.name, operator.name, DOMAIN, 1, read, (made.name,), dict(attributes))
    return Step(-1, operator, Call(node, tuple(inputs), opset, (made,)), (made.name,), (False,), False)
