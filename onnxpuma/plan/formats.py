"""In which format each value rests: the least that all its readers accept, where that saves time.

The walk lets every value rest in the format of the model. Here all readers and all proved bounds are known. A
reader says how many bits and fraction bits it needs (`Operator.accepts`); a product that its readers take
untruncated passes their answers on to its factors, with the bits that its own bound needs. A value is then
truncated to that format if the network is faster with it, counting what it changes up to the next
truncations. Outputs, kept values and watched ones keep the format of the model, and so does everything whose
range bounds do not prove.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.ops.limits import ROOM
from onnxpuma.ops.registry import Operand, altered
from onnxpuma.ops.rows import exponent
from onnxpuma.plan.budget import Budget
from onnxpuma.plan.known.answers import Asked
from onnxpuma.plan.known.decisions import Changed, Decisions, Steps
from onnxpuma.plan.known.state import State
from onnxpuma.plan.plan import Step
from onnxpuma.plan.refits import followed, holds, resting_at

_PASSES = 2  # queries and keys need fewer bits once both have fewer fraction bits


def with_formats(state: State, decisions: Decisions | None = None) -> None:
    """Let the values of the planned steps rest in the formats that their readers need.

    decisions: those of the last plan of this graph, selection and network, and then of this one.
    """
    kept = staying(state)
    decisions = decisions or Decisions()
    readers = decisions.begin(state.steps, frozenset(kept))
    tried: set[tuple[str, Format]] = set()
    for number in range(_PASSES):
        formats = _Formats(state.steps, kept, state.network, tried, readers, decisions, number, state.budget)
        if not formats.settle():
            break


def staying(state: State) -> set[str]:
    """The values that rest in the format of the model, whatever reads them."""
    kept = {*state.selection.outputs, *state.wanted}
    kept.update(name for name, readers in state.readers.items() if None in readers)
    for _, operand, divisor in state.watched.found.values():
        kept.update(o.name for o in (operand, divisor) if o is not None)
    return kept


@dataclass
class _Formats:
    """The steps of a plan, which `settle` replaces, and who computes and reads each value."""

    steps: list[Step]
    kept: set[str]
    network: Network
    # What was tried before.
    tried: set[tuple[str, Format]]
    # Value -> the numbers of the steps that read it.
    readers: Mapping[str, Sequence[int]]
    decisions: Decisions
    number: int  # of this pass
    budget: Budget

    def settle(self) -> bool:
        """Choose a format for each value, the last first. Returns whether one has changed."""
        changed, answers = False, self.decisions.answers(self.number)
        for number in answers.renew(self.steps, self._asked, self.budget):
            self.budget.check_time()
            least = answers.asked[number].least
            for place, operand in enumerate(self.steps[number].call.outputs):
                format = least.get(operand.name)
                if format is None or (operand.name, format) in self.tried:
                    continue
                self.tried.add((operand.name, format))
                if self._chooses(self.steps[number], place):
                    changed |= self._try(number, place, format)
        return changed

    # -- what readers accept ----------------------------------------------------------------------------

    def _asked(self, step: Step, wishes: Sequence[Format | None]) -> Asked:
        """wishes: what the readers of each output ask for."""
        call = step.call
        stay = tuple([self._stays(step, o) for o in call.outputs])
        question = "asked", step.resolves, step.constant, tuple(wishes), stay
        least, answers = call.content.once(question, lambda: self._by_place(step, wishes))
        return Asked(
            {call.outputs[place].name: wish for place, wish in least.items()},
            [(call.given(place).name, answer) for place, answer in answers],
        )

    def _by_place(
        self, step: Step, wishes: Sequence[Format | None]
    ) -> tuple[dict[int, Format | None], list[tuple[int, Format | None]]]:
        """The same with places in place of names."""
        outputs, least = [], {}
        for place, wish in enumerate(wishes):
            operand, resolves = step.call.outputs[place], step.resolves[place]
            if resolves or not operand.deferred:
                wish = None if wish is None else holding(operand, wish)
                least[place] = None if self._stays(step, operand) else wish
            outputs.append(self._needed(step, operand, resolves, wish))
        call = altered(step.call, outputs=tuple(outputs))
        answers = [
            (place, None if step.constant or not is_plain(o) else step.operator.accepts(call, place))
            for place, o in enumerate(step.call.inputs)
            if o is not None and o.secret
        ]
        return least, answers

    def _stays(self, step: Step, operand: Operand) -> bool:
        return step.constant or operand.name in self.kept or not is_plain(operand)

    def _needed(self, step: Step, operand: Operand, resolves: bool, asked: Format | None) -> Operand:
        """An output in the least format from which its readers, and its truncation, get what they need."""
        if self._stays(step, operand):
            return operand
        most, fraction = operand.format.bits, operand.fraction
        if not resolves and not operand.deferred:
            return operand if asked is None else altered(operand, format=asked)
        held = holding(operand, operand.format.modulo(fraction))
        if held is None or (asked is None and not resolves):
            return operand
        bits = held.bits
        if not resolves and asked is not None:
            bits = max(bits, asked.bits)
        elif operand.form is Replicated:  # without a message, as long as the shift leaves enough bits
            bits = max(bits, operand.resting.bits + fraction - operand.resting.fraction)
        return altered(operand, format=Format(min(bits, most), fraction))

    # -- trying a format --------------------------------------------------------------------------------

    def _chooses(self, step: Step, place: int) -> bool:
        """Whether a step can leave an output in any format: it is truncated after the kernel, or follows."""
        if step.resolves[place]:
            return True
        return place == 0 and step.operator.follows

    def _try(self, number: int, place: int, format: Format) -> bool:
        """Let an output rest in this format, if nothing leaves its range and the network is faster so."""
        changed = self.decisions.changed_alike(
            ("rests", place, format), number, self.steps, partial(self._changed, number, place, format)
        )
        for n, new in (changed or {}).items():
            self.steps[n] = new
        return bool(changed)

    def _changed(self, number: int, place: int, format: Format, steps: Steps) -> Changed:
        """The steps that change with this format of an output; none if it does not pay."""
        step, operand = steps[number], steps[number].call.outputs[place]
        if format == operand.resting or format.bits > operand.resting.bits:
            return {}
        changed = followed(steps, self.readers, number, resting_at(step, place, format))
        if not all(holds(steps[n], new) for n, new in changed.items()):
            return {}
        truncate = [n for n in changed if n != number and _costs_change(steps[n], changed[n])]
        ways = {
            "the model's format": _cost(step, [steps[n] for n in truncate]),
            "the least format": _cost(changed[number], [changed[n] for n in truncate]),
        }
        return {} if self.network.fastest(ways) == "the model's format" else changed


def holding(operand: Operand, format: Format) -> Format | None:
    """The format, with more bits if its proved bound needs them; None without a bound."""
    if operand.bound.size == float("inf"):
        return None
    own = format.fraction + 2 + exponent(operand.bound.size * (1 + ROOM) + ROOM)
    return format.modulo(max(own, format.bits))


def is_plain(operand: Operand) -> bool:
    """A real number with nothing beside it, out of no mask, and computed from more than weights."""
    return operand.dtype.kind == "f" and not (
        operand.weight or operand.reach or operand.hollow or operand.beside is not None
    )


def _costs_change(old: Step, new: Step) -> bool:
    """Whether a step truncates something from another ring: a result, or a product that it takes."""
    before, after = ([*s.call.secrets, *s.call.outputs] for s in (old, new))
    return any(a.deferred and a.format != b.format for a, b in zip(after, before, strict=True))


def _cost(maker: Step, readers: Sequence[Step]) -> Cost:
    """Of the step that makes a value, and then of those whose results it changes, side by side."""
    total = Cost()
    for step in readers:
        total |= step.cost
    return maker.cost + total
