"""The sources of a streamed array at one party: its keys, and the file of words, whose bytes are checked."""

from __future__ import annotations

from onnxpuma.mpc.forms.reading import Stored
from onnxpuma.mpc.forms.source import KeySource, MemorySource, Source
from onnxpuma.mpc.ring.arrays import empty
from onnxpuma.mpc.sharing import KEYED, components_of
from onnxpuma.roles.shared.shares import Shares


def stored(shares: Shares, name: str, in_memory: bool = False) -> Stored:
    """The two components that the party holds of a matrix, in packed words. in_memory: read and make them
    now; PlanError when the words do not match their tag."""
    (rows, columns), format = shares.tensors[name]
    first, second = (_source(shares, name, component) for component in components_of(shares.party))
    found = Stored((first, second), (rows, columns), format.bits)
    if in_memory:
        found.sources = (_held(shares, name, first, found.size), _held(shares, name, second, found.size))
    return found


def _source(shares: Shares, name: str, component: int) -> Source:
    if component in KEYED:
        return KeySource(shares.keys[component], shares.indices[name])
    return shares.source(name)


def _held(shares: Shares, name: str, source: Source, size: int) -> MemorySource:
    if not isinstance(source, KeySource):
        return MemorySource(shares.packed(name))
    data = empty(size, 8).data
    source.read(0, data)
    return MemorySource(data)
