"""The view of each party in a protocol, recorded while all three run under chosen PRF words (enumeration.py).

Protocols act on each element alone, so many runs fit side by side on one axis, the lanes. Each lane has its
own inputs and its own PRF words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.ring.arrays import as_plane, counting, stacked, unpacked, zeros
from onnxpuma.mpc.ring.words import WIDEST, Words, word_type
from onnxpuma.transport.memory import MemoryLink, memory_links

Columns: TypeAlias = npt.NDArray[np.uint64]  # (lanes, words of a lane)
Source: TypeAlias = Callable[[int, int, int, int], Columns]  # (key, place, words, bits)
Program: TypeAlias = Callable[..., Protocol[Any]]


@dataclass(frozen=True)
class Input:
    """One input word a lane, and the parties that know it."""

    bits: int
    known: frozenset[int]


@dataclass
class Draw:
    """Words drawn from one key at one place of its stream."""

    key: int
    place: int
    round: int
    bits: int
    words: Columns


@dataclass
class Message:
    """Words that one party sent to another, reduced to `bits`."""

    sender: int
    receiver: int
    round: int
    bits: int
    words: Columns


@dataclass
class Tape:
    """The three PRF streams, lane by lane. Checks that both holders of a key draw alike."""

    lanes: int
    source: Source
    draws: dict[int, list[Draw]] = field(default_factory=lambda: {0: [], 1: [], 2: []})
    _place: dict[tuple[int, int], int] = field(default_factory=dict)

    def read(self, party: int, key: int, now: int, count: int, bits: int) -> Columns:
        place = self._place.get((party, key), 0)
        self._place[party, key] = place + 1
        if party not in (key, (key + 2) % 3):
            raise ProtocolError(f"party {party} draws from key {key}, which it does not hold")
        drawn = self.draws[key]
        if place == len(drawn):
            drawn.append(Draw(key, place, now, bits, self.source(key, place, count, bits)))
        draw = drawn[place]
        if (draw.round, draw.words.shape[1], draw.bits) != (now, count, bits):
            mine = f"{count} words of {bits} bits in round {now}"
            theirs = f"{draw.words.shape[1]} of {draw.bits} in round {draw.round}"
            raise ProtocolError(
                f"place {place} of key {key}: one holder draws {mine}, the other {theirs}",
                "both draw the same words in the same order between the same two yields",
            )
        return draw.words

    def finish(self) -> None:
        for key, drawn in self.draws.items():
            if any(self._place.get((p % 3, key), 0) != len(drawn) for p in (key, key + 2)):
                raise ProtocolError(f"one holder of key {key} drew more words than the other")

    @property
    def bits(self) -> int:
        """PRF bits of one lane."""
        return sum(d.bits * d.words.shape[1] for drawn in self.draws.values() for d in drawn)


class _Watched(Party):
    """A party that draws from the tape and records its messages."""

    def __init__(self, link: MemoryLink, tape: Tape, messages: list[Message]) -> None:
        super().__init__(link, PartyKeys({}))
        self._tape, self._messages = tape, messages

    def draw(self, key: int, shape: tuple[int, ...], bits: int) -> Words:
        lanes, count = self._tape.lanes, int(np.prod(shape)) // self._tape.lanes
        words = self._tape.read(self.index, key % 3, self.round, count, bits)
        words = words.astype(word_type(bits))
        if lanes in shape:
            axis = shape.index(lanes)
            rest = shape[:axis] + shape[axis + 1 :]
            return np.moveaxis(words.reshape(lanes, *rest), 0, axis).copy()
        return words.reshape(shape).copy()

    def draw_planes(self, key: int, planes: int, elements: int) -> Words:
        lanes, each = self._tape.lanes, elements // self._tape.lanes
        if not planes:
            return zeros((0, -(-elements // 8)), 8)
        bits = self._tape.read(self.index, key % 3, self.round, planes * each, 1).astype(np.uint8) & 1
        rows = bits.reshape(lanes, planes, each).swapaxes(0, 1).reshape(planes, elements)
        return as_plane(rows, axis=1)

    def send(self, peer: int, words: Words, bits: int) -> None:
        super().send(peer, words, bits)
        sent, width = _columns(words, self._tape.lanes, bits)
        self._messages.append(Message(self.index, peer % 3, self.round, width, sent))


def _columns(words: Words, lanes: int, bits: int) -> tuple[Columns, int]:
    """Words with the lanes as first axis, and their width. Packed planes become words of one bit."""
    shape = words.shape
    if lanes in shape:
        moved = np.moveaxis(words, shape.index(lanes), 0).reshape(lanes, -1)
    elif shape[0] % lanes == 0:
        moved = words.reshape(lanes, -1)
    else:  # planes: (..., elements / 8)
        apart = unpacked(words, axis=-1)
        each = apart.shape[-1] // lanes
        moved, bits = apart.reshape(-1, lanes, each).swapaxes(0, 1).reshape(lanes, -1), 1
    return moved.astype(np.uint64) & np.uint64((1 << bits) - 1), bits


@dataclass
class Recording:
    """One run of all lanes: the parties' results, draws and messages."""

    results: list[Any]
    tape: Tape
    messages: list[Message]

    def received(self, party: int) -> list[Message]:
        return [m for m in self.messages if m.receiver == party]

    def derived(self, party: int) -> list[Draw]:
        """All words of the two keys that the party holds."""
        return [d for key in (party, (party + 1) % 3) for d in self.tape.draws[key]]


def record(program: Program, inputs: Sequence[Words], lanes: int, source: Source) -> Recording:
    """Run program(party, *inputs) at the three parties in lockstep; `inputs` are arrays (lanes,).

    The program builds its forms from the words that its party may know.
    """
    tape, messages = Tape(lanes, source), list[Message]()
    parties = [_Watched(link, tape, messages) for link in memory_links(timeout=5.0)]
    running = [program(party, *inputs) for party in parties]
    results: list[Any] = []
    while not results:
        stopped = []
        for protocol in running:
            try:
                next(protocol)
            except StopIteration as stop:
                stopped.append(stop.value)
        if stopped and len(stopped) < 3:
            raise ProtocolError("one party's protocol ended before the others'", "yield equally often")
        results = stopped
        if not results:
            for party in parties:
                party.exchange()
    tape.finish()
    return Recording(results, tape, messages)


def random_source(lanes: int, seed: int) -> Source:
    """Random words, whose bits above their width are random too."""

    def draw(key: int, place: int, count: int, bits: int) -> Columns:
        source = np.random.default_rng([seed, key, place])
        return source.integers(0, 1 << 64, (lanes, count), np.uint64)

    return draw


def random_inputs(inputs: Sequence[Input], lanes: int, seed: int) -> list[Words]:
    source = np.random.default_rng([seed, 3])
    return [source.integers(0, 1 << 64, lanes, np.uint64).astype(word_type(i.bits)) for i in inputs]


def unbroken(source: Source) -> Source:
    """The source unchanged. A test that breaks a protocol replaces it."""
    return source


def everything(
    program: Program, inputs: Sequence[Input], broken: Callable[[Source], Source] = unbroken
) -> Recording:
    """One run with a lane for each combination of input words and PRF words.

    The inputs are the most significant bits of a lane's number, the first input at the top.
    """
    trial = record(program, random_inputs(inputs, 1 << 10, 0), 1 << 10, random_source(1 << 10, 0))
    bits = trial.tape.bits + sum(i.bits for i in inputs)
    if bits > 23:
        raise ProtocolError(
            f"{bits} bits of inputs and PRF words are too many to enumerate", "use fewer bits"
        )
    lanes = 1 << bits
    index = counting(lanes, WIDEST)
    used = 0

    def digit(width: int) -> npt.NDArray[np.uint64]:
        nonlocal used
        used += width
        return (index >> np.uint64(used - width)) & np.uint64((1 << width) - 1)

    def draw(key: int, place: int, count: int, width: int) -> Columns:
        return stacked([digit(width) for _ in range(count)], axis=1)

    used = trial.tape.bits
    words = [digit(i.bits).astype(word_type(i.bits)) for i in reversed(inputs)][::-1]
    used = 0
    return record(program, words, lanes, broken(draw))
