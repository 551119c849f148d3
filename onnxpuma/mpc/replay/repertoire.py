"""The programs of one party, by what they depend on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Later, Maybe, Party, Protocol
from onnxpuma.mpc.replay.program import Program, parts
from onnxpuma.mpc.replay.rehearsal import COPIED, rehearsed
from onnxpuma.mpc.ring.native import native_level

MOST = 1 << 26  # bytes of the arrays of all programs of a repertoire
Kernel = Callable[..., Protocol[list[Form]]]


class Repertoire:
    """Programs for protocols that were rehearsed. One that runs is not run a second time meanwhile: there may
    be several of a kind."""

    def __init__(self) -> None:
        self._programs: OrderedDict[Hashable, list[Program] | None] = OrderedDict()
        self._size = 0

    def run(
        self, kernel: Kernel, like: Hashable, turn: int, party: Party, operands: Sequence[Any]
    ) -> Protocol[list[Form]]:
        """kernel(party, *operands), replayed where it can be: the same words, messages and rounds.

        like: equal for kernels that do the same with operands of the same shapes and formats. turn: the last
        pivot in turn before it begins.
        """
        inputs, described = list[Maybe](), list[Hashable]()
        for operand in operands:
            held = parts(operand) if isinstance(operand, Form) else ()
            if held is None:
                return kernel(party, *operands)
            if held:
                inputs += held
                described.append((type(operand), operand.format, *[_said(part, party.round) for part in held]))
        key = (like, turn, party.index, native_level(), *described)
        if key in self._programs:
            self._programs.move_to_end(key)
            programs = self._programs[key]
            if programs is None:
                return kernel(party, *operands)
            for program in programs:
                if not program.busy:
                    return program.run(party, inputs)
        try:
            program = rehearsed(kernel, party, turn, operands)
        except Exception:  # whatever a rehearsal cannot do, and errors that the run itself will report
            self._programs[key] = None
            return kernel(party, *operands)
        held_programs = self._programs.setdefault(key, [])
        assert held_programs is not None
        held_programs.append(program)
        self._size += program.size
        while self._size > MOST and len(self._programs) > 1:
            _, gone = self._programs.popitem(last=False)
            self._size -= sum(each.size for each in gone or ())
        return program.run(party, inputs)


def _said(part: Maybe, round: int) -> Hashable:
    """What a program depends on of an array of an operand."""
    if isinstance(part, Later):
        if part.pending:
            return part.shape, part.arrival - round, part.readable
        part = part.take()
    return part.shape, part.dtype.char, part.strides if part.nbytes > COPIED else None
