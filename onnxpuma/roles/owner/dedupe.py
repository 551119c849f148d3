"""Find the arrays that the graphs of a model have in common, by hashes, so that each is shared once.

A decoder is exported twice, with a cache and without, and may use the encoder's table as well. The servers
then see which arrays of two graphs are equal. This must tell no more than the architecture does: arrays of
one graph are never compared, and arrays that may be equal by chance (vectors, such as a bias that was never
trained, small matrices, and any array of a single number) are stored as one only if they have the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from onnxpuma.graph.model import Initializer

_BLOCK = 1 << 20  # elements hashed at a time
_LEAST = 64


def fingerprint(weight: Initializer) -> bytes:
    """SHA-256 over dtype, shape and content. Reads the weight a block at a time, then releases it."""
    total = hashlib.sha256(repr((weight.dtype.str, weight.shape)).encode())
    values = weight.numpy().reshape(-1)
    for start in range(0, values.size, _BLOCK):
        total.update(np.ascontiguousarray(values[start : start + _BLOCK]).view(np.byte).data)
    del values
    weight.release()
    return total.digest()


def rank_of(weight: Initializer) -> int:
    """How many axes tell an array from others: those longer than one, but at most one axis in an array of
    fewer than 64 elements or of a single number. Reads no more of it than that takes."""
    axes = sum(extent > 1 for extent in weight.shape)
    if axes < 2 or weight.size < _LEAST:
        return min(axes, 1)
    values = weight.numpy().reshape(-1)
    blocks = (values[start : start + _BLOCK] for start in range(0, values.size, _BLOCK))
    even = all(bool(np.all(block == values[0])) for block in blocks)
    del values, blocks
    weight.release()
    return 1 if even else axes


def assign(graphs: Mapping[str, Mapping[str, tuple[bytes, int]]]) -> dict[str, dict[str, str]]:
    """For each graph: weight -> the stored array that holds it, named after the first graph with that array.

    graphs: by name, weight -> (fingerprint, rank_of), in order.
    """
    stored: dict[str, dict[str, str]] = {}
    holders: dict[bytes, list[tuple[str, str]]] = {}  # fingerprint -> (stored array, its weight's name)
    for graph, weights in graphs.items():
        found: dict[str, str] = {}
        for same_name in (True, False):
            taken = set(found.values())
            for weight, (content, rank) in weights.items():
                for array, name in holders.get(content, []) if weight not in found else []:
                    if array not in taken and (name == weight if same_name else rank > 1):
                        found[weight] = array
                        taken.add(array)
                        break
        for weight, (content, _) in weights.items():
            if weight not in found:
                found[weight] = f"{graph}/{weight}"
                holders.setdefault(content, []).append((found[weight], weight))
        stored[graph] = {weight: found[weight] for weight in weights}
    return stored
