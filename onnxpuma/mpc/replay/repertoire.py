"""The programs of one party, by what they depend on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any

from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Later, Maybe, Party, Protocol
from onnxpuma.mpc.replay.program import Program, parts
from onnxpuma.mpc.replay.rehearsal import COPIED, rehearsed
from onnxpuma.mpc.ring.native import native_level

MOST = 1 << 26  # bytes of the arrays of all programs of a repertoire
AT_ONCE = 64  # rehearsals in a run of steps that come once a run
MOST_SEEN = 1 << 11  # kinds of steps that it remembers
Kernel = Callable[..., Protocol[list[Form]]]


class Repertoire:
    """Programs for protocols that were rehearsed. One that runs is not run a second time meanwhile: there may
    be several of a kind."""

    def __init__(self) -> None:
        self._programs: OrderedDict[Hashable, _Known] = OrderedDict()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._size = self._run = self._rehearsals = 0
        self._lock = Lock()  # two threads may run plans at a time

    def begin(self) -> None:
        """A run of a plan begins."""
        self._run += 1
        self._rehearsals = 0

    def run(
        self, kernel: Kernel, like: Hashable, often: bool, party: Party, operands: Sequence[Any]
    ) -> Protocol[list[Form]]:
        """kernel(party, *operands), replayed where it can be: the same words, messages and rounds.

        like: equal for kernels that do the same with operands of the same shapes and formats. often: whether
        it is worth a rehearsal at once; else one takes place when a later run comes to it again, and a few in
        one run. A rehearsal takes as long as a few runs.
        """
        inputs, described = list[Maybe](), list[Hashable]()
        for operand in operands:
            held = parts(operand)
            if held is None:
                return kernel(party, *operands)
            if held:
                inputs += held
                kind = type(operand), getattr(operand, "format", None)
                described.append((*kind, *[_said(part, party.round) for part in held]))
        key = (like, party.turn, party.index, native_level(), *described)
        with self._lock:
            program = self._free(key, often, kernel, party, operands)
            return kernel(party, *operands) if program is None else program.run(party, inputs)

    def _free(
        self, key: Hashable, often: bool, kernel: Kernel, party: Party, operands: Sequence[Any]
    ) -> Program | None:
        """A program that nobody runs; None where the protocol is to be run as it is."""
        known = self._programs.get(key)
        if known is None:
            if not (often or (self._seen_before(key) and self._rehearsals < AT_ONCE)):
                return None
            known = self._programs[key] = _Known([])
        self._programs.move_to_end(key)
        known.run = self._run
        for program in known.programs:
            if not program.busy:
                return program
        if known.possible and self._has_room():
            self._rehearsals += not often
            try:
                program = rehearsed(kernel, party, operands)
            except Exception:  # what a rehearsal cannot do, and errors that the run itself will report
                known.possible = False
            else:
                known.programs.append(program)
                self._size += program.size
                return program
        return None

    def _seen_before(self, key: Hashable) -> bool:
        """Whether an earlier run came to it."""
        seen = self._seen.setdefault(key, self._run)
        if len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
        return seen < self._run

    def _has_room(self) -> bool:
        """Whether there is memory for another program, if those that the last runs left alone go."""
        while self._size > MOST:
            key, oldest = next(iter(self._programs.items()))
            if oldest.run >= self._run - 1:
                return False
            del self._programs[key]
            self._size -= sum(program.size for program in oldest.programs)
        return True


class _Known:
    """The programs of one kind. run: the last run that came to it; possible: whether it can be rehearsed."""

    __slots__ = ("possible", "programs", "run")

    def __init__(self, programs: list[Program]) -> None:
        self.programs, self.possible, self.run = programs, True, 0


def _said(part: Maybe, round: int) -> Hashable:
    """What a program depends on of an array of an operand."""
    if isinstance(part, Later):
        if part.pending:
            return part.shape, part.arrival - round, part.readable
        part = part.take()
    return part.shape, part.dtype.char, part.strides if part.nbytes > COPIED else None
