"""A protocol run once without a word: nobody sends or draws anything, and what it does is noted.

The arrays of a rehearsal have shapes and no words that anybody could read (mpc/ring/noted.py). A protocol
that looks at a word, or does what notes do not know, ends the rehearsal with an error, and is run as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from onnxpuma.mpc.forms import Form, PublicWords
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Later, Maybe, Party, Protocol, taken
from onnxpuma.mpc.replay import arranged
from onnxpuma.mpc.replay.program import Calls, Output, Program, Result, Stage, parts
from onnxpuma.mpc.ring.arrays import zeros
from onnxpuma.mpc.ring.noted import Noted, Notes
from onnxpuma.mpc.ring.tape import taped
from onnxpuma.mpc.ring.words import Words

LARGEST = 1 << 23  # bytes of the arrays of a program
COPIED = 1 << 18  # bytes of an input that a program copies to where it works; it reads larger ones in place


class Scribe(Party):
    """A party that notes what a protocol asks of it."""

    def __init__(self, index: int, turn: int, notes: Notes, stage: Stage) -> None:  # no link, no keys
        self.index, self.turn = index, turn
        self.round = 0
        self._notes, self._stage = notes, stage
        self._coming = 0

    def draw(self, key: int, shape: tuple[int, ...], bits: int) -> Words:
        into = zeros(shape, bits)
        self._notes.note(arranged.draw, key, into)
        return cast(Words, self._notes.kept(into))

    def draw_planes(self, key: int, planes: int, elements: int) -> Words:
        into = zeros((planes, -(-elements // 8)), 8)
        self._notes.note(arranged.draw, key, into)
        return cast(Words, self._notes.kept(into))

    def alone(self, draw: Callable[[], Words]) -> Words:
        raise TypeError("words that a party draws alone are drawn anew in each run")

    def send(self, peer: int, words: Words, bits: int) -> None:
        self._goes(arranged.send, self._stage.send, peer, words, bits)

    def tell(self, pivot: int, words: Words, bits: int) -> None:
        self._goes(arranged.tell, self._stage.tell, pivot, words, bits)

    def _goes(
        self, function: Callable[..., None], now: Callable[..., None], to: int, words: Words, bits: int
    ) -> None:
        """Note words of a message. now: sends those that each run has of its own."""
        held: Any = words
        if isinstance(held, Noted) and held.place is not None:
            self._notes.later(now, to, words, bits)
            return
        held = held.words if isinstance(held, Noted) else held
        if not (held.flags.c_contiguous and held.flags.aligned):
            held, scattered = zeros(held.shape, 8 * held.itemsize), held
            self._notes.note(np.copyto, held, scattered)
        self._notes.note(function, to, held, bits)

    def expect(self, peer: int, shape: tuple[int, ...], bits: int) -> Later:
        number, self._coming = self._coming, self._coming + 1
        self._notes.note(arranged.expect, peer, shape, bits)

        def arrive() -> Words:
            into = zeros(shape, bits)
            self._notes.note(arranged.arrive, number, into, bits)
            return cast(Words, self._notes.kept(into))

        return Later(self, shape, arrive)

    def operand(self, form: Form | PublicWords, first: int, round: int) -> Form | PublicWords:
        """An operand of the rehearsal in the place of one of a run, whose open round this is. first: the
        number of its first array."""
        if isinstance(form, PublicWords):
            return PublicWords(self._read(form.words, first))
        held = [
            self._input(part, number, form, round) for number, part in enumerate(parts(form) or (), first)
        ]
        return type(form)(self.index, *held, form.format)  # type: ignore[call-arg]

    def _input(self, part: Maybe, number: int, form: Form, round: int) -> Maybe:
        if not isinstance(part, Later) or not part.pending:
            return self._read(taken(part), number)
        arrival = self.round + part.arrival - round
        if part.readable:
            return Later(self, part.shape, None, arrival, self._read(part.take(), number))
        shape = part.shape

        def arrive() -> Words:
            into = zeros(shape, form.bits)
            self._notes.note(arranged.read, number, into)
            return cast(Words, self._notes.kept(into))

        return Later(self, shape, arrive, arrival)

    def _read(self, words: Words, number: int) -> Words:
        if words.nbytes > COPIED:
            found = self._notes.brought(words)
            self._notes.note(self._stage.bring, number, found.place)
            return cast(Words, found)
        into = zeros(words.shape, 8 * words.itemsize)
        self._notes.note(arranged.read, number, into)
        return cast(Words, self._notes.kept(into))


def rehearsed(kernel: Callable[..., Protocol[list[Form]]], party: Party, operands: Sequence[Any]) -> Program:
    """The program of kernel(party, *operands), a protocol that returns forms.

    operands: forms of which programs know the arrays, and public values. The program takes the party's pivots
    from where their turn is now. Raises an error of any kind where a program cannot stand for the protocol.
    """
    notes = Notes(LARGEST)
    stage = Stage(notes.own)
    scribe = Scribe(party.index, party.turn, notes, stage)
    known: dict[int, Form | PublicWords] = {}
    given, first = list[Any](), 0
    for operand in operands:
        if isinstance(operand, (Form, PublicWords)):
            if id(operand) not in known:
                known[id(operand)] = scribe.operand(operand, first, party.round)
            first += len(parts(operand) or ())
            operand = known[id(operand)]
        given.append(operand)
    protocol, rounds = kernel(scribe, *given), list[Calls]()
    while True:
        try:
            next(protocol)
        except StopIteration as stop:
            forms: list[Form] = stop.value
            break
        rounds.append(notes.cut())
        scribe.round += 1
    written = [_outputs(form, scribe) for form in forms]
    rounds.append(notes.cut())
    scribe.round += 1
    results = [
        Result(type(form), form.format, tuple(_settled(each) for each in every))  # type: ignore[arg-type]
        for form, every in zip(forms, written, strict=True)
    ]
    *calls, tail = map(taped, arranged.arranged(stage, [*rounds, notes.cut()]))
    return Program(stage, calls, tail, results, notes.size)


def _outputs(form: Form, scribe: Scribe) -> list[Output | Later]:
    """The arrays of a result. Those that arrive later are left as they are."""
    held = parts(form)
    if held is None or isinstance(form, Weights):
        raise TypeError(f"a program that returns a {type(form).__name__}")
    found: list[Output | Later] = []
    for part in held:
        if not isinstance(part, Later) or not part.pending:
            found.append(_output(taken(part)))
            continue
        if part.arrival != scribe.round:
            raise TypeError("a result that arrives after the next exchange")
        found.append(replace(_output(part.take()), late=True, early=True) if part.readable else part)
    return found


def _settled(output: Output | Later) -> Output:
    if isinstance(output, Output):
        return output
    return replace(_output(output.take()), late=True, shape=output.shape)


def _output(words: Any) -> Output:
    if not isinstance(words, Noted):
        return Output(constant=words)
    return Output(array=words.words) if words.place is None else Output(place=words.place)
