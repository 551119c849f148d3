"""Why a node cannot run, and what the model's owner can do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnxpuma.graph.model import Initializer, Node
from onnxpuma.ops.registry import find, operators

_FEW = 16  # numbers: a larger secret array is a trained weight, so no hint advises publishing it


@dataclass(frozen=True)
class Refusal:
    """A node that cannot run, and why."""

    node: str
    operator: str
    opset: int
    reason: str
    # The node would run at other sizes.
    sizes: bool = False

    def __str__(self) -> str:
        return f"{self.node} ({self.operator}, opset {self.opset}): {self.reason}"


def no_kernel(node: Node) -> str:
    """The reason that names an operator without a kernel, and those of a similar name."""
    near = ", ".join(sorted(n for n in operators() if n[:3].lower() == node.op[:3].lower()))
    similar = (
        f"similar operators that are supported: {near}"
        if near
        else "docs/operators.md lists the supported operators"
    )
    return f"no secure kernel for {node.op}; {similar}"


def way_out(
    node: Node, weights: Mapping[str, Initializer], nodes: Iterable[Node] = (), sizes: bool = False
) -> str:
    """The part of a refusal that names secret constants to make public; "" where that is no help.

    An operator computes on its first input, so a weight there is no obstacle. Where no other input is a
    secret constant, `nodes` tell which ones the inputs follow from. sizes: the node would run at other sizes,
    so the weights that it computes with are no obstacle either.
    """
    if find(node) is None and not node.traits.control:
        return "" if sizes else _way_behind(node, weights, nodes)
    named = [
        f"'{name}'"
        for place, name in enumerate(node.inputs)
        if name and name in weights and ((place and not sizes) or weights[name].dtype.kind != "f")
    ]
    if not named:
        return "" if sizes else _way_behind(node, weights, nodes)
    if len(named) == 1:
        return f"; its input {named[0]} is a secret constant: --public shows it, if everybody may see it"
    return f"; {' and '.join(named)} are secret constants: --public shows them, if everybody may see them"


def _way_behind(node: Node, weights: Mapping[str, Initializer], nodes: Iterable[Node]) -> str:
    """`way_out` for the origins of the inputs; "" where a trained weight is among them."""
    makers = {output: maker for maker in nodes for output in maker.outputs}
    computes_on = node.inputs[0] if find(node) is not None else None
    todo = [name for name in node.inputs if name and not (name == computes_on and name in weights)]
    found: dict[str, None] = {}
    for name in todo:  # grows while it is read
        if name in weights:
            if weights[name].dtype.kind == "f" and weights[name].size > _FEW:
                return ""
            found[name] = None
        elif name in makers and not makers[name].traits.of_shape:
            todo += [n for n in makers[name].inputs if n and n not in todo]
    if not found:
        return ""
    named = " and ".join(f"'{name}'" for name in found)
    which = "a secret constant" if len(found) == 1 else "secret constants"
    return f"; it follows from {named}, {which}: --public shows {'it' if len(found) == 1 else 'them'}"
