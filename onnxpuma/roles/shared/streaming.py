"""The sources of a streamed array at one party: its keys, and the file of words, whose bytes are checked.

Words are checked against their tag as their blocks pass in the first run that reads them all; a mismatch ends
that run. From then on they are trusted, until somebody writes to the file.
"""

from __future__ import annotations

from onnxpuma.mpc.forms.reading import Stored
from onnxpuma.mpc.forms.source import KeySource, MemorySource, Passing, Source
from onnxpuma.mpc.ring.arrays import empty
from onnxpuma.mpc.sharing import KEYED, components_of
from onnxpuma.roles.shared.shares import Check, Shares

_BLOCK = 1 << 22  # bytes that are read and checked at a time


class WordsSource:
    """The packed words of one array in the file of words."""

    def __init__(self, shares: Shares, name: str) -> None:
        self._shares, self._name = shares, name
        self._file = shares.source(name)
        self._trusted: tuple[int, ...] | None = None  # the file's stamp when all words agreed with their tag

    def read(self, start: int, out: memoryview) -> None:
        self._file.read(start, out)

    def passing(self) -> Passing | None:
        stamp = self._shares.stamp
        return None if stamp == self._trusted else _Pass(self, self._shares.check(self._name), stamp)

    def trust(self, stamp: tuple[int, ...]) -> None:
        """The words agreed with their tag; the file had this stamp before the first of them was read."""
        self._trusted = stamp


class _Pass:
    def __init__(self, source: WordsSource, check: Check, stamp: tuple[int, ...]) -> None:
        self._source, self._check, self._stamp = source, check, stamp

    def update(self, data: memoryview) -> None:
        self._check.update(data)

    def finish(self) -> None:
        self._check.finish()
        self._source.trust(self._stamp)


def stored(shares: Shares, name: str, in_memory: bool = False) -> Stored:
    """The two components that the party holds of a matrix, in packed words. in_memory: read and make them
    now; PlanError when the words do not match their tag."""
    (rows, columns), format = shares.tensors[name]
    first, second = (_source(shares, name, component) for component in components_of(shares.party))
    found = Stored((first, second), (rows, columns), format.bits)
    if in_memory:
        found.sources = (_held(first, found.size), _held(second, found.size))
    return found


def _source(shares: Shares, name: str, component: int) -> Source:
    if component in KEYED:
        return KeySource(shares.keys[component], shares.indices[name])
    return WordsSource(shares, name)


def _held(source: Source, size: int) -> MemorySource:
    data, check = empty(size, 8).data, source.passing()
    for start in range(0, size, _BLOCK):
        block = data[start : start + _BLOCK]
        source.read(start, block)
        if check is not None:
            check.update(block)
    if check is not None:
        check.finish()
    return MemorySource(data)
