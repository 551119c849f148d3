"""The walk over a graph: it decides who computes each node, and the builder of that kind plans the node."""

from __future__ import annotations

from collections.abc import Callable

import onnxpuma.ops  # noqa: F401  (registers the operators)
from onnxpuma.graph.model import Node
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.known.state import State
from onnxpuma.plan.walk.clear import leave_to_client, run_public
from onnxpuma.plan.walk.control import unrolled
from onnxpuma.plan.walk.function import expanded
from onnxpuma.plan.walk.kinds import Kind, kind_of
from onnxpuma.plan.walk.lookups import looked_up
from onnxpuma.plan.walk.parts import Parts, Refused
from onnxpuma.plan.walk.refuse import pass_over, refuse
from onnxpuma.plan.walk.step import planned, record
from onnxpuma.plan.walk.undefined import is_nan

_BUILDERS: dict[Kind, Callable[[State, Node], Parts[None]]] = {
    Kind.PUBLIC: run_public,
    Kind.CLIENT: leave_to_client,
    Kind.UNROLLED: lambda state, node: (is_nan if node.op == "IsNaN" else unrolled)(state, node),
    Kind.LOOKUP: looked_up,
    Kind.STEP: planned,
    Kind.FUNCTION: expanded,
    Kind.LOST: pass_over,
}


def walk(state: State, recall: Recall) -> None:
    """Plan every node that the outputs need, in the graph's order. recall: of plans for the same outputs."""
    recall.start(state)
    for node in state.nodes:
        recall.plan(state, node, visit, record)


def visit(state: State, node: Node) -> bool:
    """Plan one node, or the parts that replace it; note a node that cannot run as refused.

    Whether it planned this node alone.
    """
    alone = True
    try:
        for part in _BUILDERS[kind_of(node, state.values, state.unknown)](state, node):
            visit(state, part)  # the builder reads the result when it goes on
            alone = False
    except Refused as refused:
        refuse(state, node, refused)
        alone = False
    return alone
