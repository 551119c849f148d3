"""What one party does in a protocol, as a flat list of calls on arrays that stay: no generators, no forms.

Protocols have no branch on a secret, so what they do follows from shapes, formats and public numbers. A
program is what a rehearsal (rehearsal.py) noted. It draws the same words, sends the same messages and yields
in the same rounds as the protocol itself, so each party may replay or not as it likes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, PublicWords, Replicated, Sum3
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Arriving, Later, Maybe, Party, Protocol, taken
from onnxpuma.mpc.ring.packing import laid_out
from onnxpuma.mpc.ring.places import Places
from onnxpuma.mpc.ring.words import Words

Calls: TypeAlias = "list[tuple[Callable[..., Any], tuple[Any, ...]]]"


class Stage:
    """What a program reads and tells while it runs: its party, its inputs, and words on their way to it."""

    __slots__ = ("coming", "inputs", "own", "party")

    def __init__(self, own: list[Any]) -> None:
        self.party: Any = None
        self.inputs: list[Maybe] = []
        self.coming: list[Arriving] = []
        self.own = own

    def begin(self, party: Party, inputs: Sequence[Maybe]) -> None:
        self.party, self.inputs, self.coming = party, list(inputs), []

    def end(self) -> None:
        """Forget the run: its keys, its link and its operands."""
        self.party, self.inputs, self.coming = None, [], []
        self.own[:] = [None] * len(self.own)

    def read_all(self, numbers: tuple[int, ...], places: Places) -> None:
        """Copy the words of inputs, which have arrived."""
        places.unpack([laid_out(taken(self.inputs[number])) for number in numbers])

    def bring(self, number: int, place: int) -> None:
        """Take an input as it is."""
        self.own[place] = taken(self.inputs[number])

    def draw_all(self, key: int, places: Places) -> None:
        """Overwrite arrays with the next words of K_key."""
        self.party.draw_all(key, places)

    def send(self, peer: int, words: Words, bits: int) -> None:
        self.party.send(peer, _sent(words, bits), bits)

    def tell(self, pivot: int, words: Words, bits: int) -> None:
        self.party.tell(pivot, _sent(words, bits), bits)

    def send_all(self, peer: int, packed: Words, sizes: tuple[int, ...]) -> None:
        """Send what a round has packed for a peer: buffers of these sizes. They may leave after the program
        has run again."""
        self.party.send_all(peer, packed.tobytes(), sizes)

    def expect_all(self, peer: int, sizes: tuple[int, ...]) -> None:
        """Announce the words of a message: the next number of `arrive_all`."""
        self.coming.append(self.party.expect_all(peer, sizes))

    def arrive_all(self, number: int, places: Places) -> None:
        """Unpack the buffers of a message, each to its array."""
        places.unpack(self.coming[number].take())


def _sent(words: Words, bits: int) -> Words:
    """Words for a message, which may leave after the program has run again: whole ones are not packed, but
    travel where they lie."""
    return words.copy() if bits == 8 * words.itemsize else words


@dataclass(frozen=True)
class Output:
    """One array of a result: `array` of the program, the array at `place` of its own ones, or `constant`;
    where `late` is set, words that arrive with the exchange after the end, unless this party has them."""

    array: Words | None = None
    place: int | None = None
    constant: Words | None = None
    late: bool = False
    shape: tuple[int, ...] = ()
    early: bool = False

    def words(self, own: list[Any]) -> Words:
        if self.constant is not None:
            return self.constant
        if self.array is not None:
            return self.array.copy()
        found: Words = own[self.place or 0]
        return found


@dataclass(frozen=True)
class Result:
    """One form that the protocol returns."""

    form: type[Replicated] | type[Sum3]
    format: Format
    outputs: tuple[Output, ...]


class Program:
    """The calls of a protocol, a list for each of its rounds, and those after its end (`tail`), which wait
    for words of its last exchange."""

    def __init__(
        self, stage: Stage, rounds: Sequence[Calls], tail: Calls, results: Sequence[Result], size: int
    ) -> None:
        self._stage, self._rounds, self._tail, self._results = stage, list(rounds), tail, list(results)
        self._going: weakref.ref[Protocol[list[Form]]] | None = None
        self._ending: weakref.ref[_Ending] | None = None
        self.size = size  # bytes of its arrays

    @property
    def busy(self) -> bool:
        """Whether its arrays hold words that somebody still needs."""
        going = self._going() if self._going is not None else None
        if going is not None and getattr(going, "gi_frame", None) is not None:
            return True
        ending = self._ending() if self._ending is not None else None
        return ending is not None and not ending.over

    def run(self, party: Party, inputs: Sequence[Maybe]) -> Protocol[list[Form]]:
        """The protocol, with these arrays of its operands (`parts`). The program is busy from now on."""
        going = self._run(party, inputs)
        self._going = weakref.ref(going)
        return going

    def _run(self, party: Party, inputs: Sequence[Maybe]) -> Protocol[list[Form]]:
        self._stage.begin(party, inputs)
        *rounds, last = self._rounds
        for calls in rounds:
            for function, arguments in calls:
                function(*arguments)
            yield
        for function, arguments in last:
            function(*arguments)
        return self._ended(party)

    def _ended(self, party: Party) -> list[Form]:
        own, late = self._stage.own, list[Output]()
        ending = _Ending(self, late)
        forms: list[Form] = []
        for result in self._results:
            parts: list[Maybe] = []
            for output in result.outputs:
                if not output.late:
                    parts.append(output.words(own))
                elif output.early:
                    parts.append(Later.early(party, output.words(own)))
                else:
                    parts.append(Later(party, output.shape, partial(ending.take, len(late))))
                    late.append(output)
            make: Any = result.form
            forms.append(make(party.index, *parts, result.format))
        if late:
            self._ending = weakref.ref(ending)
        else:
            self._stage.end()
        return forms

    def finish(self, late: Sequence[Output]) -> list[Words]:
        """Run the tail, once the last exchange has brought its words."""
        for function, arguments in self._tail:
            function(*arguments)
        found = [output.words(self._stage.own) for output in late]
        self._stage.end()
        return found


class _Ending:
    """The results of a program that were on their way when it ended."""

    def __init__(self, program: Program, late: list[Output]) -> None:
        self._program, self._late = program, late
        self._found: list[Words] | None = None

    @property
    def over(self) -> bool:
        return self._found is not None

    def take(self, number: int) -> Words:
        if self._found is None:
            self._found = self._program.finish(self._late)
        return self._found[number]


def parts(operand: Any) -> tuple[Maybe, ...] | None:
    """The arrays of an operand that each run brings along: none of a plain public one, which is part of the
    program. None where programs do not know its form."""
    kind = type(operand)
    if kind is Replicated:
        held: tuple[Maybe, ...] = operand.components
        return held
    if kind is Weights:
        return operand.kept, operand.blend
    if kind is Sum3 or kind is PublicWords:
        return (operand.words,)
    return () if operand is None or kind is np.ndarray else None
