"""The loop: every step of a plan starts when its inputs are there. It names no operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from onnxpuma.mpc.forms import Form, PublicWords, Replicated, Sum3
from onnxpuma.mpc.forms.reading import WINDOW, Reading
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.dpf import Dealt
from onnxpuma.mpc.replay.repertoire import Repertoire
from onnxpuma.observe import OperatorUse, Progress, RunReport, Stopwatch
from onnxpuma.ops.beside import whole
from onnxpuma.ops.content import Content
from onnxpuma.ops.late import is_late
from onnxpuma.ops.spread import truncated
from onnxpuma.plan.lanes.lanes import in_lanes, lanes_of
from onnxpuma.plan.lanes.waiting import Waiting
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.streaming import reads
from onnxpuma.plan.timeline import Uses

OFTEN = 4  # steps of a plan that are alike, from which on one is rehearsed for all
SMALL = 1 << 24  # bits that such a step sends at most
FEW = 1 << 16  # elements of its largest output

Watched = Callable[[Step, Sequence[Form]], None]  # gets a step, and this party's shares of its outputs


class Interpreter:
    """Runs plans on one party's weights (initializer name -> shares).

    It keeps the results of constant steps, which depend on weights alone (a transposed weight), for the
    requests that follow. Streamed weights are read ahead by `readers` threads, `window` bytes at a time.
    """

    def __init__(self, weights: Mapping[str, Replicated], window: int = WINDOW, readers: int = 1) -> None:
        self._weights = weights
        self._stored = {name: x.stored for name, x in weights.items() if isinstance(x, Streamed)}
        self._window, self._readers = window, readers
        self._constants: dict[tuple[str, tuple[str, ...]], list[Form]] = {}
        self._repertoire = Repertoire()

    @property
    def streams(self) -> bool:
        """Whether its runs read weights that do not stay in memory."""
        return bool(self._stored)

    def run(
        self,
        plan: Plan,
        party: Party,
        inputs: Mapping[str, Dealt],
        progress: Progress | None = None,
        watched: Watched | None = None,
    ) -> tuple[dict[str, Replicated | Sum3], RunReport]:
        """Run `plan` in lockstep with the two other parties.

        `inputs`: this party's shares of the plan's secret inputs. `watched` is called with every step when
        it has ended. Returns this party's shares of the secret outputs (a product that nothing else reads
        stays untruncated), and a report.
        Raises TransportError when a peer leaves, stops or is out of step; PlanError when a streamed weight
        is damaged or cannot be read.
        """
        values: dict[str, Any] = {**self._weights, **inputs}
        watch = Stopwatch(party.index, lambda: party.link.traffic.bytes_sent, lambda: party.waited)
        plan = in_lanes(plan)
        order = [self._stored[name] for name in reads(plan, self._stored)]
        with Reading(order, self._window, self._readers) as party.reading:
            run = _Run(self._constants, self._repertoire, plan, party, values, watch.report, watched)
            party.run(run.rounds(progress))
        watch.report.streamed = party.reading.use
        watch.stop()
        return {o.name: values[o.name] for o in plan.outputs if o.secret}, watch.report


class _Run:
    """One run of a plan: the steps that run, and those that wait for them.

    The three parties start, resume and end the same steps in the same order: a step takes as many rounds at
    each of them. So they draw from a common key in one order, and a round's words travel in that order.
    """

    def __init__(
        self,
        constants: dict[tuple[str, tuple[str, ...]], list[Form]],
        repertoire: Repertoire,
        plan: Plan,
        party: Party,
        values: dict[str, Any],
        report: RunReport,
        watched: Watched | None,
    ) -> None:
        self._constants, self._plan, self._party, self._values = constants, plan, party, values
        self._report, self._watched, self._uses = report, watched, Uses(plan)
        self._repertoire, self._turns = repertoire, dict[Content, int]()
        repertoire.begin()
        self._alike = [_alike(step) for step in plan.steps]
        self._often = {content for content, count in Counter(self._alike).items() if count >= OFTEN}
        # The words of late inputs, which equal steps share.
        self._late: dict[tuple[object, ...], Sequence[PublicWords]] = {}
        self._done = 0
        self._waiting, self._lanes = Waiting(plan), lanes_of(plan)

    def rounds(self, progress: Progress | None) -> Protocol[None]:
        """The whole run: a yield is an exchange, with the words of all steps that run in one lane.

        The lanes take turns, so the words of one travel while the others compute; a round of the run is a
        turn of each. A step of no lane runs where it becomes ready.
        """
        lanes: list[list[_Going]] = [[] for _ in range(self._lanes)]
        told = -1
        while True:
            first = True  # of the exchanges of this round
            for lane, running in enumerate(lanes):
                running[:] = [one for one in running if self._goes_on(one)]
                while due := self._waiting.due(lane):  # a step that ends at once may make others ready
                    running += [one for step in due if self._goes_on(one := self._started(step))]
                if not running:
                    continue
                oldest = running[0]
                self._party.step, self._party.label = oldest.step.index, oldest.step.label
                if first:
                    self._report.rounds += 1
                    oldest.use.rounds += 1
                first = False
                if progress is not None and told < self._done:
                    told = self._done
                    progress(self._done, len(self._plan.steps), oldest.step.label)
                yield
            if first and not self._waiting.ready:
                return

    def _started(self, step: Step) -> _Going:
        """A step that begins. A small step has pivots of its own in turn. They begin at the same one for all
        that are often alike, so that one program stands for these, and else where the run is."""
        use = self._report.of(step.operator.name)
        use.steps += 1
        content = self._alike[step.index]
        if content is None:
            return _Going(step, self._step(step), use, None)
        party, run, often = self._party, self._party.turn, content in self._often
        if often:
            party.turn = self._turns.setdefault(content, len(self._turns) % 3)
        elif step.cost.rounds:
            run = (run + 1) % 3
        turn, like = party.turn, (content, step.resolves)
        protocol = self._repertoire.run(partial(_results, step), like, often, party, self._operands(step))
        party.turn = run
        return _Going(step, protocol, use, turn)

    def _goes_on(self, one: _Going) -> bool:
        """Whether the step has not ended by the end of this round's computation."""
        party, use = self._party, one.use
        began, sent, turn = perf_counter(), party.queued, party.turn
        if one.turn is not None:
            party.turn = one.turn
        try:
            next(one.protocol)
        except StopIteration as stop:
            self._end(one.step, stop.value)
            return False
        finally:
            if one.turn is not None:
                one.turn, party.turn = party.turn, turn
            use.seconds += perf_counter() - began
            use.bytes_sent += party.queued - sent
        return True

    def _end(self, step: Step, outputs: list[Form]) -> None:
        self._values.update(zip(step.outputs, outputs, strict=True))
        self._done += 1
        if self._watched is not None:
            self._watched(step, outputs)
        for name in self._uses.over(step):
            self._values.pop(name, None)
        self._waiting.ended(step)

    def _operands(self, step: Step) -> list[Any]:
        values, late = self._values, step.operator.late
        found = [None if o is None else values[o.name] if o.secret else o.value for o in step.call.inputs]
        if late is not None and is_late(step.call, late):
            key = step.call.content, *(id(found[place]) for place in late.places)
            if key not in self._late:
                self._late[key] = late.words(step.call)
            for place, words in zip(late.places, self._late[key], strict=True):
                found[place] = words
        return found

    def _step(self, step: Step) -> Protocol[list[Form]]:
        key = (step.call.node.name, step.outputs)
        if step.constant and key in self._constants:
            yield from ()
            return self._constants[key]
        results = yield from _results(step, self._party, *self._operands(step))
        if step.constant:
            self._constants[key] = results
        return results


def _results(step: Step, party: Party, *operands: Any) -> Protocol[list[Form]]:
    """A step on these operands, its outputs truncated where the plan says so."""
    if step.operator.beside is None:
        operands = tuple([whole(value, o) for value, o in zip(operands, step.call.inputs, strict=True)])
    results = list((yield from step.operator.kernel(party, step.call, *operands)))
    due = [
        (place, result, step.call.outputs[place].resting)
        for place, (result, resolve) in enumerate(zip(results, step.resolves, strict=False))
        if resolve and isinstance(result, (Replicated, Sum3))
    ]
    if due:
        resolved = yield from parallel(truncated(party, result, format) for _, result, format in due)
        for (place, *_), result in zip(due, resolved, strict=True):
            results[place] = result
    return results


class _Going:
    """A step that has begun. turn: the last of its own pivots in turn; None: it takes those of the run."""

    __slots__ = ("protocol", "step", "turn", "use")

    def __init__(
        self, step: Step, protocol: Protocol[list[Form]], use: OperatorUse, turn: int | None
    ) -> None:
        self.step, self.protocol, self.use, self.turn = step, protocol, use, turn


def _alike(step: Step) -> Content | None:
    """What a small step has in common with those that do the same; None for a large one."""
    if step.constant or step.cost.bits > SMALL or any(o.size > FEW for o in step.call.outputs):
        return None
    return step.call.content
