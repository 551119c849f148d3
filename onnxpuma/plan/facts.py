"""Facts: what a model's owner says of its secret weights in numbers, so that everybody finds the same bounds.

Of each array that is used, how large its numbers are and how long its rows; of a factor of a product also how
much longer it can make a row, as a whole and by heads. Every fact is rounded up to a quarter of a power of
two (of few numbers to a whole one). They are public, like the plan (docs/security.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from onnxpuma.graph.model import Graph, Node
from onnxpuma.graph.run import run_node
from onnxpuma.ops.bounds import UNKNOWN, Bound

Facts = dict[str, dict[str, int]]

STEPS = (1.0, 1.1892071150027212, 1.4142135623730954, 1.681792830507430)  # 2^(k/4), rounded up
_SMALLEST = -400  # quarters: less is as good as nothing
KEPT_ROOM = 1 + 2.0**-8  # between what is said of a kept value and what it is checked to stay below
NOTHING = {"size": _SMALLEST, "row": _SMALLEST}
_CHUNK = 1 << 20  # elements looked at in double precision at a time
_WIDEST = 1 << 14  # columns: beyond it is a vocabulary, and nobody asks for its heads
_CUTS = ("Reshape", "Transpose", "Attention", "RotaryEmbedding")
_ON = ("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Split", "Slice", "Cast", "Identity", "Concat")
_HEADS = range(8, 513)  # elements
_MOST_HEADS = 3  # sizes of heads that are tried
_SMALL = 128  # rows or columns of a matrix that is measured as a whole
_TOGETHER = 64  # columns of which it is told how much longer all of them make a row
_COUNTS = ("q_num_heads", "kv_num_heads", "num_heads")  # attributes
_ROUNDING = 2.0**-19 * (1 + 2.0**-10)  # of each number of a factor, when it is encoded, and of its sums
_FEW = 16  # numbers: of fewer less is told
_MADE = 1 << 28  # elements of what is made of weights to be measured


def rounded(value: float) -> int:
    """The smallest k with value <= 2^(k/4)."""
    if not value > 0:
        return _SMALLEST
    mantissa, exponent = math.frexp(value)  # value = 2 mantissa 2^(exponent - 1)
    step = next((k for k, s in enumerate(STEPS) if 2 * mantissa <= s), 4)
    return max(4 * (exponent - 1) + step, _SMALLEST)


def _stated(key: str, value: float, coarse: int) -> int:
    """The fact in quarters, to a multiple of `coarse`; the least number of an array is rounded down."""
    quarters = rounded(value)
    if key == "least":
        return (quarters - 1) // coarse * coarse + 1
    return -(-quarters // coarse) * coarse


def number(quarters: int) -> float:
    """2^(quarters/4), a little above it."""
    return math.ldexp(STEPS[quarters % 4], quarters // 4)


def bound_of(facts: Mapping[str, int] | None) -> Bound:
    """What facts say of an array."""
    if facts is None or "size" not in facts:
        return UNKNOWN
    size = number(facts["size"])
    least = number(facts["least"]) * (1 - 2.0**-20) / STEPS[1] if "least" in facts else -size
    norm, blocks, matrix = math.inf, {}, {}
    for key, quarters in facts.items():
        kind, _, count = key.rpartition(" ")
        if key == "row":
            norm = number(quarters)
        elif kind == "row" and count.isdigit():
            blocks[int(count)] = number(quarters)
        elif key not in ("size", "least"):
            matrix[key] = number(quarters)
    return Bound(least, size, norm, blocks, matrix)


def facts_of(graph: Graph, secret: Collection[str], public_inputs: Collection[str]) -> Facts:
    """Of every secret real weight, and of what is made of weights alone and read by others.

    Reads one array at a time. Cost: 100 operations an element of a factor.
    """
    uses = Uses(graph, secret, public_inputs)
    found: Facts = {}
    for name, roles in uses.roles.items():
        values = uses.value(name)
        if values is None or values.dtype.kind not in "fV" or not values.size:
            continue
        with np.errstate(all="ignore"):
            measured = {key: v for key, v in _measured(values, roles, uses.widths(name)) if math.isfinite(v)}
        if "size" in measured:
            coarse = 4 if values.size < _FEW else 1
            found[name] = {key: _stated(key, value, coarse) for key, value in measured.items()}
        del values
        if name in graph.initializers:
            graph.initializers[name].release()
    return found


class Uses:
    """Which values are made of weights, what is done with each, and the sizes that heads may have."""

    def __init__(self, graph: Graph, secret: Collection[str], public_inputs: Collection[str]) -> None:
        self._graph = graph
        self._makers: dict[str, Node] = {}
        constant = set(graph.initializers) - set(public_inputs)
        weights = set(secret)
        self.roles: dict[str, set[str]] = {name: set() for name in secret}
        for node in graph.nodes:
            named = [name for name in node.inputs if name]
            made = bool(named) and all(n in constant for n in named) and not node.subgraphs
            if made and any(n in weights for n in named):
                constant.update(node.outputs)
                weights.update(o for o in node.outputs if o)
                self._makers.update((o, node) for o in node.outputs if o)
            for reader, slot, name in _reads([node]):
                if name in weights:
                    self.roles.setdefault(name, set()).add(_role(reader, slot))
        self.heads = _heads(graph)
        readers: dict[str, list[Node]] = {}
        for reader, _, name in _reads(graph.nodes):
            readers.setdefault(name, []).append(reader)
        self.split = {
            name
            for name in self.roles
            if any(_falls_into_heads(node, readers) for node in readers.get(name, []))
        }

    def widths(self, name: str) -> Callable[[int], list[int]]:
        """The sizes of heads that rows of so many elements may have which this value makes."""
        return lambda width: head_sizes(width, self.heads) if name in self.split else []

    def value(self, name: str) -> np.ndarray | None:
        """The array, made anew where it follows from others; None of one that is too large or not here."""
        initializer = self._graph.initializers.get(name)
        if initializer is not None:
            return initializer.numpy() if initializer.available else None
        node = self._makers[name]
        inputs = [None if n is None else self.value(n) for n in node.inputs]
        absent = any(v is None and n is not None for v, n in zip(inputs, node.inputs, strict=True))
        if absent or sum(v.size for v in inputs if v is not None) > _MADE:
            return None
        made = run_node(node, inputs, self._graph.opset)
        return np.asarray(made[node.outputs.index(name)])


def _reads(nodes: Iterable[Node]) -> Iterator[tuple[Node, int, str]]:
    """(node, place, name) of all that is read, in branches and loops as well."""
    for node in nodes:
        for slot, name in enumerate(node.inputs):
            if name:
                yield node, slot, name
        for inner in node.subgraphs:
            yield from _reads(inner.nodes)


def _role(node: Node, slot: int) -> str:
    """What a use wants to know of an array: of x @ W its columns, of x @ W' its rows."""
    if node.domain:
        return "numbers"
    if node.op == "MatMul" and slot == 1:
        return "columns"
    if node.op == "MatMul" or (node.op == "Gemm" and slot == 1 and node.attribute("transB")):
        return "rows"
    if node.op == "Gemm" and slot < 2:
        return "columns"
    return "filters" if node.op == "Conv" and slot == 1 else "numbers"


def _falls_into_heads(node: Node, readers: Mapping[str, Sequence[Node]], depth: int = 5) -> bool:
    """Whether what a node makes may be cut into heads, soon behind it."""
    if not depth:
        return False
    for reader in (r for output in node.outputs for r in readers.get(output, [])):
        if reader.op in _CUTS or (reader.op in _ON and _falls_into_heads(reader, readers, depth - 1)):
            return True
    return False


def _heads(graph: Graph) -> tuple[set[int], set[int]]:
    """(sizes, numbers) of heads that the graph names: last extents of shapes, and attributes."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    sizes: set[int] = set()
    counts: set[int] = set()
    for node in graph.nodes:
        given = (value for key, value in node.attributes.items() if key in _COUNTS)
        counts.update(value for value in given if isinstance(value, int) and value > 1)
        name = node.inputs[1] if node.op == "Reshape" else None
        while name in makers and makers[name].op in ("Concat", "Cast", "Unsqueeze", "Identity"):
            name = makers[name].inputs[-1 if makers[name].op == "Concat" else 0]
        shape = graph.initializers.get(name or "")
        if shape is not None and shape.available and shape.dtype.kind == "i" and 0 < shape.size < 16:
            extent = int(shape.numpy().reshape(-1)[-1])
            sizes.update([extent] if extent in _HEADS else [])
    return sizes, counts


def head_sizes(width: int, heads: tuple[set[int], set[int]]) -> list[int]:
    """The sizes that heads of a row of so many elements may have: of queries, of keys and values beside
    them, of all three in one."""
    if width > _WIDEST:
        return []
    sizes, counts = heads
    parts = {width // (count * times) for count in counts for times in (1, 3) if width % (count * times) == 0}
    fitting = sorted(b for b in {*sizes, *parts} if b in _HEADS and b < width and width % b == 0)
    return fitting[-_MOST_HEADS:]


def _measured(
    values: np.ndarray, roles: Collection[str], widths: Callable[[int], list[int]]
) -> Iterator[tuple[str, float]]:
    size = float(np.abs(values).max())
    if not math.isfinite(size):  # it is refused when it is shared
        return
    yield "size", size
    if float(values.min()) > 0:
        yield "least", float(values.min())
    if not values.ndim:
        return
    yield "row", _longest(values.reshape(-1, values.shape[-1]))
    for count in widths(values.shape[-1]) if "numbers" in roles else ():
        yield f"row {count}", _longest(values.reshape(-1, count))
    if values.ndim < 2:
        return
    if "filters" in roles:
        rows = values.reshape(values.shape[0], -1)
        yield "filter", _longest(rows)
        yield "filter sum", _largest_sum(rows)
    if "columns" in roles:
        yield from _factor(values, widths(values.shape[-1]))
    if "rows" in roles:
        for key, value in _factor(values.swapaxes(-1, -2), widths(values.shape[-2])):
            if key != "column":
                yield f"row {key}", value


def _factor(values: np.ndarray, widths: Collection[int]) -> Iterator[tuple[str, float]]:
    """Of W (..., k, n) what x @ W may be."""
    stack, together = values.reshape(-1, *values.shape[-2:]), math.gcd(values.shape[-1], _TOGETHER)
    columns, sums, squares = 0.0, 0.0, 0.0
    blocks = dict.fromkeys(widths, 0.0)
    for matrix in stack:
        whole, by_block = 0.0, 0.0
        for part in _columns(matrix, math.lcm(together, *widths)):
            squared = np.einsum("ij,ij->j", part, part)
            columns = max(columns, float(squared.max()))
            sums = max(sums, float(np.abs(part).sum(axis=0).max()))
            whole += float(squared.sum())
            for width in widths:
                largest = np.linalg.eigvalsh(_grams(part, width))[:, -1]
                blocks[width] = max(blocks[width], float(largest.max()))
            grams = _grams(part, together)
            by_block += float(np.sqrt(np.einsum("bij,bij->b", grams, grams)).sum())
        if min(matrix.shape) <= _SMALL:
            short = (matrix if matrix.shape[1] <= matrix.shape[0] else matrix.T).astype(np.float64)
            by_block = float(np.linalg.eigvalsh(short.T @ short)[-1])
        squares = max(squares, min(whole, by_block))
    inner, number = values.shape[-2:]
    yield "column", math.sqrt(columns) + math.sqrt(inner) * _ROUNDING
    yield "sum", sums + inner * _ROUNDING
    yield "spectral", math.sqrt(squares) + math.sqrt(inner * number) * _ROUNDING
    for width, largest_square in blocks.items():
        yield f"spectral {width}", math.sqrt(max(largest_square, 0.0)) + math.sqrt(inner * width) * _ROUNDING


def _columns(matrix: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Groups of columns in double precision, whole blocks of `width` each but for the last."""
    step = max(1, _CHUNK // max(matrix.shape[0] * width, 1)) * width
    for start in range(0, matrix.shape[1], step):
        yield matrix[:, start : start + step].astype(np.float64)


def _grams(part: np.ndarray, width: int) -> np.ndarray:
    """B'B of each block of `width` columns, or B B', which has the same largest eigenvalue and may be less:
    how much longer rows become, squared. The root of the sum of its squares is no less."""
    blocks = part.reshape(part.shape[0], -1, width).transpose(1, 0, 2)  # (blocks, k, width)
    turned = blocks.swapaxes(1, 2)
    return np.asarray(blocks @ turned if part.shape[0] < width else turned @ blocks)


def _longest(rows: np.ndarray) -> float:
    return _over(rows, lambda part: math.sqrt(float(np.einsum("ij,ij->i", part, part).max())))


def _largest_sum(rows: np.ndarray) -> float:
    return _over(rows, lambda part: float(np.abs(part).sum(axis=1).max()))


def _over(rows: np.ndarray, measure: object) -> float:
    step, most = max(1, _CHUNK // max(rows.shape[1], 1)), 0.0
    for start in range(0, len(rows), step):
        most = max(most, measure(rows[start : start + step].astype(np.float64)))  # type: ignore[operator]
    return most * (1 + 1e-9)
