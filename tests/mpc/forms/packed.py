"""Matrices of weights in packed words: the three parties' parts of one, resident and streamed, for tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from onnxpuma.errors import PlanError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.forms.reading import Stored
from onnxpuma.mpc.forms.source import KeySource, MemorySource, Source
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.ring.words import Words, reduced, resized

KEYS = (bytes(range(16)), bytes(range(16, 32)))


class Counted:
    """A source like a file: it counts what is read of it, and may fail or turn out to be damaged."""

    def __init__(self, data: bytes, fails: bool = False, damaged: bool = False) -> None:
        self.data, self.fails, self.damaged = data, fails, damaged
        self.bytes, self.threads = 0, set[str]()
        self.due = True

    def read(self, start: int, out: memoryview) -> None:
        assert start % 16 == 0
        assert start + len(out) <= len(self.data)
        if self.fails and start:
            raise PlanError("the file cannot be read", "mount its disk again")
        out[:] = self.data[start : start + len(out)]
        self.bytes += len(out)
        self.threads.add(threading.current_thread().name)

    def passing(self) -> Checked | None:
        return Checked(self) if self.due else None


class Checked:
    """The check of one pass over a `Counted`."""

    def __init__(self, of: Counted) -> None:
        self.of, self.seen = of, bytearray()

    def update(self, data: memoryview) -> None:
        self.seen += data

    def finish(self) -> None:
        if self.of.damaged or self.seen != self.of.data:
            raise PlanError("the file is damaged", "copy it again")
        self.of.due = False


def packed_matrix(words: Words, format: Format, index: int = 3) -> tuple[list[Source], list[Words]]:
    """The sources of the three components of a matrix, and their words."""
    streams = []
    for key in KEYS:
        data = bytearray(-(-words.size * format.bits // 8))
        KeySource(key, index).read(0, memoryview(data))
        streams.append(ring.unpack(bytes(data), format.bits, words.shape))
    last = resized(reduced(words - sum(streams), format.bits), format.bits)
    stored = ring.pack(last, format.bits).tobytes()
    return [*(KeySource(key, index) for key in KEYS), Counted(stored)], [*streams, last]


def weights_of(words: Words, format: Format) -> tuple[list[Weights], list[Streamed]]:
    """The three parties' parts of a matrix: with all its words, and streamed."""
    sources, components = packed_matrix(words, format)
    shape: tuple[int, int] = words.shape  # type: ignore[assignment]
    pairs = [(party, (party + 1) % 3) for party in range(3)]
    resident = [
        Weights.of(Replicated(i, components[a], components[b], format)) for i, (a, b) in enumerate(pairs)
    ]
    streamed = [
        Streamed(i, Stored((sources[a], sources[b]), shape, format.bits), format)
        for i, (a, b) in enumerate(pairs)
    ]
    return resident, streamed


def in_memory(data: Sequence[int]) -> MemorySource:
    return MemorySource(memoryview(bytes(data)))


def readers() -> list[threading.Thread]:
    """The threads that read ahead now."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("onnxpuma-reader")]


def matrix(shape: tuple[int, int], bits: int, seed: int = 0) -> Words:
    """Random words of a ring."""
    drawn = np.random.default_rng(seed).integers(0, 1 << 64, shape, np.uint64)
    return resized(reduced(drawn, bits), bits)
