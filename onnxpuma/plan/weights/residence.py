"""Where each weight of a server stays: as words, packed, or on the disk and in keys, to be read in every run.

A product reads two words of a weight that stays as words, and nothing else costs time. Packed, a weight needs
only the bits of its ring, and is unpacked in each product. A streamed weight needs no memory but for the
blocks that are read ahead; every run that takes it reads one component from the file of words, or makes it
from a key, and makes the other from a key. The choice is a function of the model and of the budget. It
decides how fast a run is: results and messages are the same wherever a weight stays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Graph, Node
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.reading import WINDOW, Rows
from onnxpuma.mpc.protocols.dpf import ONE_HOT
from onnxpuma.standard import units

_LONGEST_WINDOW = 8 * WINDOW
_WINDOW_SHARE = 8  # of the memory beside the weights that must stay: one part is for blocks
_IN_PLACE = ("Transpose", "Identity")

Tensors = Mapping[str, tuple[tuple[int, ...], Format]]  # array -> its shape, and the format of its words


@dataclass(frozen=True)
class Residence:
    """Which arrays stay how, in the model's order."""

    words: tuple[str, ...]
    packed: tuple[str, ...]
    streamed: tuple[str, ...]
    # Bytes of memory: of both components of those that stay, and of the blocks that are read ahead.
    words_bytes: int
    packed_bytes: int
    window: int
    # Bytes of one component of the streamed arrays.
    streamed_bytes: int

    @property
    def memory(self) -> int:
        """Bytes of memory for the weights."""
        return self.words_bytes + self.packed_bytes + self.window


def streamable(graph: Graph, weights: Collection[str]) -> set[str]:
    """The weights that products and look-ups can take block by block: matrices that are read by nothing else,
    perhaps through a Transpose."""
    readers: dict[str, list[tuple[Node, int]]] = {}
    for node in _nodes(graph):
        for slot, name in enumerate(node.inputs):
            if name:
                readers.setdefault(name, []).append((node, slot))
    initializers = graph.initializers
    matrices = [w for w in weights if len(initializers[w].shape) == 2 and initializers[w].size]
    return {name for name in matrices if _only_streams(name, readers, graph.outputs)}


def _nodes(graph: Graph) -> Iterator[Node]:
    """All nodes, those inside branches and loops as well."""
    for node in graph.nodes:
        yield node
        for inner in node.subgraphs:
            yield from _nodes(inner)


def _only_streams(
    name: str, readers: Mapping[str, Sequence[tuple[Node, int]]], outputs: Collection[str]
) -> bool:
    if name in outputs:
        return False
    for node, slot in readers.get(name, ()):
        if node.op in _IN_PLACE and not node.domain:
            if not all(_only_streams(made, readers, outputs) for made in node.outputs if made):
                return False
        elif not _takes_blocks(node, slot):
            return False
    return True


def _takes_blocks(node: Node, slot: int) -> bool:
    if node.domain:
        return False
    if node.op == "Gather":
        return slot == 0 and node.attribute("axis") == 0
    return node.op in ("MatMul", "Gemm") and slot == 1


def looked_up(graph: Graph) -> set[str]:
    """The initializers in which ids are looked up."""
    return {
        node.inputs[0]
        for node in _nodes(graph)
        if node.op == "Gather" and not node.domain and node.inputs[0] in graph.initializers
    }


def residence(
    tensors: Tensors,
    streams: Collection[str],
    memory: int | None,
    tables: Collection[str] = (),
    firm: bool = True,
) -> Residence:
    """Where each array stays if all of them may take `memory` bytes; None: as much as they need.

    streams: those that may be streamed. Of these as many as fit stay, as words or else packed, spread evenly
    over the model, so that reading goes on all the time. tables: those in which ids are looked up.

    The other arrays and a block are needed: where the budget does not hold these, ConfigError, which says
    how much is needed; or, if it is not `firm`, it is exceeded.
    """
    held = {name: _held(name in tables, *tensor) for name, tensor in tensors.items()}
    fixed = sum(size for name, size in held.items() if name not in streams)
    if memory is None or sum(held.values()) <= memory:
        return _residence(tensors, held, set(tensors), set(), 0)
    rows = {
        name: Rows(_matrix(tensors[name][0]), tensors[name][1].bits) for name in tensors if name in streams
    }
    packed = {name: min(held[name], 2 * each.size) for name, each in rows.items()}
    if fixed + sum(packed.values()) <= memory:
        window, kept = 0, set(packed)
    else:
        least = max((each.room for each in rows.values()), default=0)
        if fixed + least > memory and firm:
            raise _too_little(memory, fixed, least)
        memory = max(memory, fixed + least)
        window = max(least, min((memory - fixed) // _WINDOW_SHARE, _LONGEST_WINDOW))
        kept = _spread(packed, memory - fixed - window)
    left = memory - fixed - window - sum(packed[name] for name in kept)
    whole = {name for name in kept if held[name] == packed[name]}
    whole |= _spread({name: held[name] - packed[name] for name in packed if name in kept - whole}, left)
    whole |= {name for name in tensors if name not in streams}
    return _residence(tensors, held, whole, kept - whole, window)


def _held(table: bool, shape: tuple[int, ...], format: Format) -> int:
    """Memory of an array that stays as words; a table gets words of a smaller ring beside them
    (`Weights.narrowed`)."""
    beside = (
        (2 * ONE_HOT.word.itemsize if format.bits > ONE_HOT.bits else ONE_HOT.word.itemsize) if table else 0
    )
    return (format.held + beside) * math.prod(shape)


def _residence(
    tensors: Tensors, held: Mapping[str, int], words: set[str], packed: set[str], window: int
) -> Residence:
    sizes = {name: format.bytes(math.prod(shape)) for name, (shape, format) in tensors.items()}
    streamed = tuple(name for name in tensors if name not in words and name not in packed)
    return Residence(
        tuple(name for name in tensors if name in words),
        tuple(name for name in tensors if name in packed),
        streamed,
        sum(held[name] for name in words),
        sum(2 * sizes[name] for name in packed),
        window,
        sum(sizes[name] for name in streamed),
    )


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape
    return rows, columns


def _spread(sizes: Mapping[str, int], room: int) -> set[str]:
    """As many of these as fit into `room`, spread evenly over their order."""
    share = min(1.0, room / max(1, sum(sizes.values())))
    chosen: set[str] = set()
    due, used = 0.0, 0
    for name, size in sizes.items():
        due += size * share
        if used + size <= room and due - used >= size / 2:
            chosen.add(name)
            used += size
    for name, size in sizes.items():
        if name not in chosen and used + size <= room:
            chosen.add(name)
            used += size
    return chosen


def _too_little(memory: int, fixed: int, least: int) -> ConfigError:
    needed = fixed + least
    return ConfigError(
        f"{units.size(memory)} of memory are too little for the weights: {units.size(needed)} are needed,"
        f" {units.size(fixed)} for those that stay and {units.size(least)} for a block of the others",
        f"allow at least --memory {math.ceil(needed / 1e6)}MB",
    )
