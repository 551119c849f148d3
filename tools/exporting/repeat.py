"""A model of many equal layers is traced with a few of them; then the last one is repeated in the graph.

Tracing takes seconds a layer, and a copy of its nodes milliseconds. Layers count as equal where the last two
traced have the same nodes, which read the same things: their own layer's weights and past, the layer before,
and values that all layers share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

# Layers: the first may make what all share, the last two are compared, and read one like themselves.
TRACED = 4
_SMALL = 64  # elements of a constant that is compared

_Block = Sequence[ir.Node]
_Place = tuple[int, int]  # of a value in a block: its node's number, and the number of the output


def repeat(graph: ir.Graph, layers: int, inputs: Sequence[str], outputs: Sequence[str]) -> bool:
    """Turn a graph of TRACED layers, whose nodes are named by their modules, into one of `layers`.

    inputs, outputs: the names of those of the whole, in order. Returns False, and leaves the graph as it is,
    where the layers are not alike.
    """
    blocks = _blocks(graph)
    if not blocks or not _alike(blocks):
        return False
    last = blocks[-1]
    number = TRACED - 1
    made, earlier, own = _made(last), _made(blocks[-2]), set(last)
    after = [(use.node, use.idx, value) for value in made for use in value.uses() if use.node not in own]
    before: Mapping[ir.Value, ir.Value] = dict(zip(earlier, made, strict=True))
    given = {str(value.name): value for value in graph.inputs}
    returned = {str(value.name): value for value in graph.outputs}
    end = last[-1]
    for layer in range(TRACED, layers):
        new: dict[ir.Value, ir.Value] = {}
        block = [_copied(graph, node, number, layer, given, returned, new, before) for node in last]
        graph.insert_after(end, block)
        end = block[-1]
        before = {old: new[value] for old, value in zip(earlier, made, strict=True)}
    for node, place, value in after:
        node.replace_input_with(place, new[value])
    graph.inputs[:] = [given[name] for name in inputs]
    graph.outputs[:] = [returned[name] for name in outputs]
    return True


def _copied(
    graph: ir.Graph,
    node: ir.Node,
    number: int,
    layer: int,
    given: dict[str, ir.Value],
    returned: dict[str, ir.Value],
    new: dict[ir.Value, ir.Value],
    before: Mapping[ir.Value, ir.Value],
) -> ir.Node:
    """A node of layer `number` for `layer`. new: value of the one -> of the other, to which it adds. before:
    value of the layer before the one -> of the layer before the other."""

    def read(value: ir.Value | None) -> ir.Value | None:
        if value is None or value in new or value in before:
            return None if value is None else new.get(value) or before[value]
        name = str(value.name)
        own = _renumbered(name, number, layer)
        if own == name or not (value.is_graph_input() or value.is_initializer()):
            return value
        held = given if value.is_graph_input() else graph.initializers
        if own not in held:
            held[own] = ir.Value(name=own, shape=value.shape, type=value.type)
        return held[own]

    copy = ir.Node(
        node.domain,
        node.op_type,
        [read(value) for value in node.inputs],
        list(node.attributes.values()),
        overload=node.overload,
        num_outputs=len(node.outputs),
        name=_renumbered(f"{node.name}_{layer}", number, layer),
    )
    for value, made in zip(node.outputs, copy.outputs, strict=True):
        made.shape, made.type = value.shape, value.type
        made.name = f"{value.name}_{layer}" if value.name else ""
        if value.is_graph_output():
            made.name = _renumbered(str(value.name), number, layer)
            returned[made.name] = made
        new[value] = made
    return copy


def _blocks(graph: ir.Graph) -> list[list[ir.Node]]:
    """The nodes of each layer: those of its modules, and those of no module that read what it alone has."""
    blocks: list[list[ir.Node]] = [[] for _ in range(TRACED)]
    owners: dict[ir.Value, int] = {}
    for node in graph:
        found = _number(str(node.name))
        if found is None and "/" not in str(node.name):
            read = [_owner(value, owners) for value in node.inputs if value is not None]
            found = max((owner for owner in read if owner is not None), default=None)
        if found is not None:
            if found >= TRACED:
                return []
            blocks[found].append(node)
            owners.update(dict.fromkeys(node.outputs, found))
    return blocks


def _owner(value: ir.Value, owners: Mapping[ir.Value, int]) -> int | None:
    if value.is_graph_input() or value.is_initializer():
        return _number(f"{value.name}/")
    return owners.get(value)


def _number(name: str) -> int | None:
    """The layer that a name speaks of."""
    found = re.search(r"\.(\d+)[./]", name)
    return int(found[1]) if found else None


def _alike(blocks: Sequence[_Block]) -> bool:
    """Whether the last two layers have the same nodes, which read and make what corresponds."""
    earlier, one, other = blocks[-3:]
    if not len(earlier) == len(one) == len(other) > 0:
        return False
    places = [_places(block) for block in (earlier, one, other)]
    inner = {value for block in (earlier, one) for value in _made(block)}
    known = {node for block in blocks for node in block}
    if any(use.node not in known for value in inner for use in value.uses()):
        return False  # something behind the layers reads one in the middle
    return all(_same(a, b, places) for a, b in zip(one, other, strict=True))


def _same(one: ir.Node, other: ir.Node, places: Sequence[Mapping[ir.Value, _Place]]) -> bool:
    """places: of the values of the layer before `one`, of the layer of `one`, and of that of `other`."""
    if (one.domain, one.op_type, one.overload) != (other.domain, other.op_type, other.overload):
        return False
    if len(one.inputs) != len(other.inputs) or len(one.outputs) != len(other.outputs):
        return False
    if one.attributes.keys() != other.attributes.keys() or not all(
        _equal(attribute, other.attributes[name]) for name, attribute in one.attributes.items()
    ):
        return False
    earlier, own, last = places
    for a, b in zip(one.inputs, other.inputs, strict=True):
        if a is b:
            if a in own or a in last:
                return False
        elif a is None or b is None:
            return False
        elif a in own or b in last:
            if own.get(a) != last.get(b):
                return False
        elif a in earlier or b in own:
            if earlier.get(a) != own.get(b):
                return False
        elif not _corresponding(a, b):
            return False
    return all(
        a.is_graph_output() == b.is_graph_output()
        and (not a.is_graph_output() or _renumbered(str(a.name), TRACED - 2, TRACED - 1) == b.name)
        for a, b in zip(one.outputs, other.outputs, strict=True)
    )


def _corresponding(a: ir.Value, b: ir.Value) -> bool:
    """Whether two inputs or constants are the same thing of the last two layers, or equal numbers."""
    if _renumbered(str(a.name), TRACED - 2, TRACED - 1) == b.name:
        return a.is_graph_input() == b.is_graph_input() and a.is_initializer() == b.is_initializer()
    x, y = a.const_value, b.const_value
    if x is None or y is None or x.size > _SMALL or (x.dtype, x.shape) != (y.dtype, y.shape):
        return False
    return np.array_equal(x.numpy(), y.numpy())


def _equal(a: ir.Attr, b: ir.Attr) -> bool:
    if a.type != b.type or a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return False
    if a.type == ir.AttributeType.TENSOR:
        return bool(a.value.size <= _SMALL and np.array_equal(a.value.numpy(), b.value.numpy()))
    return bool(a.value == b.value)


def _made(block: _Block) -> list[ir.Value]:
    return [value for node in block for value in node.outputs]


def _places(block: _Block) -> dict[ir.Value, _Place]:
    return {value: (n, k) for n, node in enumerate(block) for k, value in enumerate(node.outputs)}


def _renumbered(name: str, number: int, layer: int) -> str:
    return re.sub(rf"\.{number}(?=[./])", f".{layer}", name, count=1)
