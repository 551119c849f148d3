"""The loop: for each wave of the plan, run its steps side by side. It names no operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.dpf import Dealt
from onnxpuma.observe import Progress, RunReport, Stopwatch
from onnxpuma.ops.beside import whole
from onnxpuma.ops.spread import truncated
from onnxpuma.plan.plan import Plan, Step

Watched = Callable[[Step, Sequence[Form]], None]  # gets a step, and this party's shares of its outputs


class Interpreter:
    """Runs plans, one at a time, on one party's weights (initializer name -> shares).

    It keeps the results of constant steps, which depend on weights alone (a transposed weight), for the
    requests that follow.
    """

    def __init__(self, weights: Mapping[str, Replicated]) -> None:
        self._weights = weights
        self._constants: dict[tuple[str, tuple[str, ...]], list[Form]] = {}

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
        its wave is done. Returns this party's shares of the secret outputs (a product that nothing else reads
        stays untruncated), and a report.
        Raises TransportError when a peer leaves, stops or is out of step.
        """
        values: dict[str, Any] = {**self._weights, **inputs}
        report = RunReport(party=party.index)
        watch = Stopwatch(report, lambda: party.link.traffic.bytes_sent, lambda: party.round)
        for number, wave in enumerate(plan.waves):
            party.step, party.label = wave[0].index, wave[0].label
            if progress is not None:
                progress(number, len(plan.waves), wave[0].label)
            results = party.run(parallel(self._step(party, step, values) for step in wave))
            for step, outputs in zip(wave, results, strict=True):
                values.update(zip(step.outputs, outputs, strict=True))
                if watched is not None:
                    watched(step, outputs)
                for name in step.frees:
                    values.pop(name, None)
            watch.lap(_shares(wave))
        watch.stop()
        return {o.name: values[o.name] for o in plan.outputs if o.secret}, report

    def _step(self, party: Party, step: Step, values: Mapping[str, Any]) -> Protocol[list[Form]]:
        key = (step.call.node.name, step.outputs)
        if step.constant and key in self._constants:
            yield from ()
            return self._constants[key]
        operands = [None if o is None else values[o.name] if o.secret else o.value for o in step.call.inputs]
        if step.operator.beside is None:
            operands = [whole(value, o) for value, o in zip(operands, step.call.inputs, strict=True)]
        results = list((yield from step.operator.kernel(party, step.call, *operands)))
        due = [
            (place, result, step.call.outputs[place].resting)
            for place, (result, resolve) in enumerate(zip(results, step.resolves, strict=False))
            if resolve and isinstance(result, (Replicated, Sum3))
        ]
        resolved = yield from parallel(truncated(party, result, format) for _, result, format in due)
        for (place, *_), result in zip(due, resolved, strict=True):
            results[place] = result
        if step.constant:
            self._constants[key] = results
        return results


def _shares(wave: tuple[Step, ...]) -> dict[str, tuple[int, float]]:
    """Operator -> (steps, its part of the wave's declared bits)."""
    bits: dict[str, tuple[int, float]] = {}
    for step in wave:
        steps, so_far = bits.get(step.operator.name, (0, 0.0))
        bits[step.operator.name] = (steps + 1, so_far + step.cost.bits + 1)
    whole = sum(part for _, part in bits.values())
    return {name: (steps, part / whole) for name, (steps, part) in bits.items()}
