"""Who may see a model's inputs, and which of them are ids: told by names, types and what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from onnxpuma.graph.model import Graph
from onnxpuma.graph.patterns import matching

# Integer and boolean inputs of these names are public unless the owner says otherwise: they tell which
# positions exist, not what stands there.
PUBLIC_INPUTS = ("*mask*", "*position*", "*token_type*", "*segment_ids*", "*seqlen*", "*cache_branch*")

_MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Concat", "Identity", "Expand")


def open_inputs(
    graph: Graph, public: Sequence[str], secret: Sequence[str], unmatched: set[str] | None = None
) -> list[str]:
    """The inputs that the servers may see: by name, but for those that a pattern makes public or secret;
    where both match, secret wins. Raises ConfigError as `matching`."""
    names = list(graph.inputs)
    wanted, kept = (matching("input", names, patterns, unmatched) for patterns in (public, secret))
    by_name = [
        name
        for name, kind in graph.inputs.items()
        if kind.dtype.kind in "iub" and any(fnmatchcase(name.lower(), p) for p in PUBLIC_INPUTS)
    ]
    return [name for name in names if (name in by_name or name in wanted) and name not in kept]


def looked_up(graph: Graph) -> set[str]:
    """The initializers of which rows are taken by what is no constant, where they stand or moved about."""
    origins = {name: {name} for name in graph.initializers}
    found: set[str] = set()
    for node in graph.nodes:
        if node.op in ("Gather", "GatherND", "GatherElements") and node.inputs[1] not in graph.initializers:
            found |= origins.get(node.inputs[0] or "", set())
        elif node.op in _MOVES:
            moved = set().union(*(origins.get(name or "", set()) for name in node.inputs))
            origins.update((output, moved) for output in node.outputs)
    return found


def tables(graph: Graph) -> dict[str, int]:
    """For each input that a Gather uses as index of a table: the table's size."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "Gather" and node.inputs[1] in graph.inputs and node.inputs[0] in graph.initializers:
            rows = graph.initializers[node.inputs[0]].shape[0]
            found[node.inputs[1]] = min(rows, found.get(node.inputs[1], rows))
    return found
