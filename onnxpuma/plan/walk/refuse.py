"""Nodes that cannot run: the walk notes them and goes on, so that one error names them all."""

from __future__ import annotations

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.model import Node
from onnxpuma.ops.registry import find
from onnxpuma.plan.known.refusals import Refusal, no_kernel, way_out
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known, draft_operand
from onnxpuma.plan.walk.parts import Parts, Refused
from onnxpuma.plan.walk.types import inferred


def refuse(state: State, node: Node, refused: Refused) -> None:
    """Note why a node cannot run.

    Where its outputs are reals of known types, they count as secret results, so that the nodes after it are
    examined as well.
    """
    operator = f"{node.domain}::{node.op}" if node.domain else node.op
    reason = refused.reason.removeprefix(f"node '{node.name}' ({node.op})").removeprefix(":").strip()
    reason += way_out(node, state.weights, state.nodes, refused.sizes)
    state.refusals.append(Refusal(node.name, operator, state.opset, reason, refused.sizes))
    state.wanted.update(n for n in node.inputs if n)
    try:
        types = inferred(state, node)
    except OnnxpumaError:
        types = []
    if not types or any(t.dtype.kind != "f" for t in types):
        _lose(state, node)
        return
    for name, kind in zip(node.outputs, types, strict=True):
        if name:
            state.values[name] = Known(
                kind, operand=draft_operand(name, kind, state.blueprint.resting), constant=False
            )


def pass_over(state: State, node: Node) -> Parts[None]:
    """Examine a node that reads a result of a refused one. Its types are not known, so only its operator's
    existence is checked."""
    if _lose(state, node) and find(node) is None and not node.traits.unrolled:
        state.refusals.append(Refusal(node.name, node.op, state.opset, no_kernel(node)))
    yield from ()


def _lose(state: State, node: Node) -> bool:
    """Note only whether a node's outputs would be secret; a shape never is."""
    names = [n for n in node.inputs if n]
    state.wanted.update(names)
    secret = not node.traits.of_shape and any(
        state.unknown[n] if n in state.unknown else state.values[n].value is None for n in names
    )
    state.unknown.update(dict.fromkeys(node.outputs, secret))
    return secret
