"""The entries of a vector that describes a shape, as far as they are known before shapes are.

An entry is a monomial: a number times the names of dimensions. Names come from shape inference, which gives
one name to dimensions it knows to be equal; a dimension without a name is called after its tensor and axis.
"""

from __future__ import annotations

from typing import TypeAlias

import onnx_ir as ir

from onnxpuma.graph.values import attribute, rank, scalar, small_array

Entry: TypeAlias = "tuple[int, tuple[str, ...]] | None"
"""(factor, sorted names of the factors); None where nothing is known."""


def number(n: int) -> Entry:
    return (int(n), ())


def times(a: Entry, b: Entry) -> Entry:
    return None if a is None or b is None else (a[0] * b[0], tuple(sorted((*a[1], *b[1]))))


def dims(x: ir.Value) -> list[Entry] | None:
    """The shape of `x`; None when its rank is not known."""
    if x.shape is None:
        return None
    found: list[Entry] = []
    for axis, d in enumerate(x.shape):
        if isinstance(d, int):
            found.append(number(d))
        else:
            found.append((1, (d.value if d.value is not None else f"{x.name}[{axis}]",)))
    return found


def reshapes_to(y: ir.Value, expected: list[Entry], before: list[Entry] | None = None) -> bool:
    """True when the Reshape that yields `y` gives it this shape; one dimension may be left to compute.

    `before` is the shape of its input, where more is known about it than inference says.
    """
    node = y.producer()
    source = None if node is None else node.inputs[0]
    if node is None or source is None or node.op_type != "Reshape" or len(node.inputs) < 2:
        return False
    found = known(y, entries(node.inputs[1]))
    if len(found) != len(expected):
        return False
    if not attribute(y, "allowzero"):
        before = before or dims(source) or []
        found = [before[i] if e == number(0) and i < len(before) else e for i, e in enumerate(found)]
    computed = [i for i, e in enumerate(found) if e == number(-1)]
    same = [(f is not None and f == e) or f == number(-1) for f, e in zip(found, expected, strict=True)]
    return len(computed) <= 1 and all(same)


def known(value: ir.Value, vector: list[Entry] | None) -> list[Entry]:
    """The shape of `value`: from its shape vector, and from inference where that is unclear."""
    inferred = dims(value) or []
    if vector is None or len(vector) != len(inferred):
        return inferred
    found: list[Entry] = []
    for said, seen in zip(vector, inferred, strict=True):
        computed = said == number(-1) and seen is not None and not seen[1]
        found.append(seen if said is None or computed else said)
    return found


def entries(vector: ir.Value | None) -> list[Entry] | None:
    """The entries of `vector` (or of a single number); None when not even its length is known."""
    if vector is None:
        return None
    values = small_array(vector)
    if values is not None:
        return [number(v) for v in values.reshape(-1)] if values.dtype.kind in "iu" else None
    node = vector.producer()
    if node is None or node.domain:
        return None
    inputs = [v for v in node.inputs if v is not None]
    if node.op_type == "Shape":
        found = dims(inputs[0])
        return None if found is None else found[attribute(vector, "start") : attribute(vector, "end")]
    if node.op_type == "Concat":
        parts = [entries(v) for v in inputs]
        return None if any(p is None for p in parts) else [e for p in parts for e in p or []]
    if node.op_type in ("Unsqueeze", "Squeeze", "Reshape", "Identity", "Cast"):
        return entries(inputs[0])
    if node.op_type == "Gather":
        return _picked(entries(inputs[0]), inputs[1])
    if node.op_type == "Split":
        return _part(vector, node)
    if node.op_type == "Slice" and len(inputs) >= 3:
        return _sliced(inputs)
    if node.op_type == "Mul":
        return _product(entries(inputs[0]), entries(inputs[1]))
    if node.op_type == "ConstantOfShape":
        return _filled(vector, inputs[0])
    if node.op_type == "Where":
        return _chosen(inputs)
    return None


def _picked(source: list[Entry] | None, index: ir.Value) -> list[Entry] | None:
    places = small_array(index)
    if source is None or places is None or not all(-len(source) <= i < len(source) for i in places.flat):
        return None
    return [source[int(i)] for i in places.flat]


def _part(vector: ir.Value, node: ir.Node) -> list[Entry] | None:
    """One of the outputs of Split, in which onnxruntime combines entries picked from a shape."""
    source, sizes = entries(node.inputs[0]), small_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if source is None or sizes is None:
        return None
    place = list(node.outputs).index(vector)
    start = int(sizes[:place].sum())
    return source[start : start + int(sizes[place])]


def _sliced(inputs: list[ir.Value]) -> list[Entry] | None:
    source, first, last = entries(inputs[0]), scalar(inputs[1]), scalar(inputs[2])
    step = scalar(inputs[4]) if len(inputs) > 4 else 1.0
    if source is None or first is None or last is None or step != 1.0:
        return None
    return source[int(first) : int(last)]


def _product(a: list[Entry] | None, b: list[Entry] | None) -> list[Entry] | None:
    if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
        return None
    length = max(len(a), len(b))
    return [times(x, y) for x, y in zip(a * (length // len(a)), b * (length // len(b)), strict=True)]


def _filled(vector: ir.Value, shape: ir.Value) -> list[Entry] | None:
    length = scalar(shape)
    tensor = attribute(vector, "value")
    if length is None or rank(vector) != 1:
        return None
    return [number(0 if tensor is None else int(tensor.numpy().reshape(-1)[0]))] * int(length)


def _chosen(inputs: list[ir.Value]) -> list[Entry] | None:
    """Where(Equal(a, b), x, y), which exporters write to replace -1 by 1."""
    node = inputs[0].producer()
    if node is None or node.op_type != "Equal":
        return None
    a, b, x, y = (entries(v) for v in (*node.inputs, *inputs[1:]))
    if a is None or b is None or x is None or y is None or len({len(a), len(b), len(x), len(y)}) != 1:
        return None
    found: list[Entry] = []
    for left, right, yes, no in zip(a, b, x, y, strict=True):
        if left is None or right is None:
            found.append(None)
        elif not left[1] and not right[1]:
            found.append(yes if left == right else no)
        elif min(left[0], right[0]) < 0:  # dimensions are not negative
            found.append(no)
        else:
            found.append(None)
    return found
