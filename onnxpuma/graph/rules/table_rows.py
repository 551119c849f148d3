"""Operations on each row looked up in a table of integers move to the table, where the owner computes them.

A quantised embedding is often exported as rows of small integers that are cast, shifted and scaled where they
are used. Gather(q, ids) -> Cast -> Mul(s) is Gather(Cast(q) * s, ids): the table becomes one float weight
(weight_only.py), and the lookup costs no product. Where the integers are secret themselves, and select rows
of another table, Gather(t, Gather(q, ids)) is Gather(t[q], ids).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.values import FLOATS, attribute, is_constant, used_once

_WITH_A_CONSTANT = ("Add", "Sub", "Mul", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitShift")


_MOST_TIMES_LARGER = 8  # a table of selected rows may be this many times larger than the original


def lift(model: ir.Model, secret: Callable[[Graph], Collection[str]]) -> None:
    """Rewrite, in place, lookups along the first axis of a table of integers that nothing else reads.

    secret: which of a graph's initializers are weights; it is asked about tables that select rows of others.
    """
    for node in list(model.graph):
        if _looks_up(node) and node.inputs[0].dtype not in FLOATS and _chooses_rows(node):
            table = str(node.inputs[0].name)
            graph = to_graph(model)
            if table in secret(replace(graph, initializers={table: graph.initializers[table]})):
                _choose(model.graph, node)
    for node in list(model.graph):
        if _looks_up(node) and node.inputs[0].dtype not in FLOATS:
            gather: ir.Node | None = node
            while gather is not None:
                gather = _lift_one(model.graph, gather)


def _looks_up(node: ir.Node) -> bool:
    if node.op_type != "Gather" or node.domain:
        return False
    table, ids = node.inputs
    whole = table is not None and is_constant(table) and len(table.uses()) == 1 and table.shape is not None
    return whole and not is_constant(ids) and attribute(node.outputs[0], "axis") == 0


def _chooses_rows(node: ir.Node) -> bool:
    rows, table = node.outputs[0], node.inputs[0]
    if rows.is_graph_output() or not rows.uses() or table is None:
        return False
    return all(_reads_rows(reader, place, table) for reader, place in rows.uses())


def _reads_rows(reader: ir.Node, place: int, table: ir.Value) -> bool:
    held = reader.inputs[0]
    if reader.op_type != "Gather" or reader.domain or place != 1 or attribute(reader.outputs[0], "axis") != 0:
        return False
    if held is None or not is_constant(held) or held.shape is None or not held.shape:
        return False
    return table.const_value.size <= _MOST_TIMES_LARGER * int(held.const_value.shape[0])


def _choose(graph: ir.Graph, node: ir.Node) -> None:
    """Make each reader of these rows look the ids up in the rows that the table selects."""
    for reader, _ in list(node.outputs[0].uses()):
        _choose_for(graph, node, reader)
    graph.remove(node, safe=True)


def _choose_for(graph: ir.Graph, node: ir.Node, reader: ir.Node) -> None:
    table, ids = node.inputs
    held, old = reader.inputs[0], reader.outputs[0]
    assert table is not None
    assert held is not None
    assert table.shape is not None
    assert held.shape is not None
    step = ir.node("Gather", [held, table], {"axis": 0}, name=f"{reader.name}/table")
    made = step.outputs[0]
    made.name, made.type = f"{old.name}/table", old.type
    made.shape = ir.Shape([*table.shape, *list(held.shape)[1:]])
    again = ir.node("Gather", [made, ids], {"axis": 0}, name=f"{reader.name}/rows")
    new = again.outputs[0]
    new.type, new.shape = old.type, old.shape
    ir.convenience.replace_nodes_and_values(graph, reader, [reader], [step, again], [old], [new])


def _lift_one(graph: ir.Graph, gather: ir.Node) -> ir.Node | None:
    """The lookup in the table after one more step; None if the next reader of its rows does something
    else."""
    table, ids = gather.inputs
    rows = gather.outputs[0]
    if table is None or ids is None or not used_once(rows):
        return None
    ((reader, place),) = rows.uses()
    if reader.domain or len(reader.outputs) != 1:
        return None
    given = _operands(reader, place, table, ids)
    if given is None:
        return None
    step = ir.node(reader.op_type, given, dict(reader.attributes), name=f"{reader.name}/table")
    shapes = [[int(d) for d in v.shape] for v in given if v is not None and v.shape is not None]
    made = step.outputs[0]
    made.name, made.type = f"{reader.outputs[0].name}/table", reader.outputs[0].type
    made.shape = ir.Shape(np.broadcast_shapes(*shapes) if reader.op_type in _WITH_A_CONSTANT else shapes[0])
    again = ir.node("Gather", [made, ids], {"axis": 0}, name=f"{reader.name}/rows")
    old, new = reader.outputs[0], again.outputs[0]
    new.type, new.shape = old.type, old.shape
    dropped = [reader, gather, *_other_look_up(reader, place)]
    ir.convenience.replace_nodes_and_values(graph, reader, dropped, [step, again], [old], [new])
    return again


def _other_look_up(reader: ir.Node, place: int) -> list[ir.Node]:
    others = [v for slot, v in enumerate(reader.inputs) if slot != place and v is not None]
    return [v.producer() for v in others if v.producer() is not None]


def _operands(reader: ir.Node, place: int, table: ir.Value, ids: ir.Value) -> list[ir.Value | None] | None:
    """The reader's operands with the whole table in place of its rows; None where that would not be
    equivalent."""
    if reader.op_type == "Cast":
        return [table]
    others = [v for slot, v in enumerate(reader.inputs) if slot != place]
    if reader.op_type == "DequantizeLinear" and place == 0:
        one = all(v is None or (is_constant(v) and v.const_value.size == 1) for v in others)
        return [table, *others] if one else None
    if reader.op_type not in _WITH_A_CONSTANT or len(others) != 1 or others[0] is None:
        return None
    other = _beside(others[0], table, ids)
    if other is None:
        return None
    return [table, other] if place == 0 else [other, table]


def _beside(other: ir.Value, table: ir.Value, ids: ir.Value) -> ir.Value | None:
    """A constant that applies to each row alike, or the table of which the same rows are looked up."""
    axes = len(table.shape or ())
    if is_constant(other):
        own = len(other.const_value.shape)
        return other if own < axes or (other.const_value.size == 1 and own <= axes) else None
    node = other.producer()
    if node is None or not used_once(other) or not _looks_up(node) or node.inputs[1] is not ids:
        return None
    second = node.inputs[0]
    assert second is not None
    alike = len(second.shape or ()) == axes and second.shape[0] == table.shape[0]
    return second if alike else None
