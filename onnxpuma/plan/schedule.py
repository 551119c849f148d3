"""From steps in the graph's order to waves: which steps run side by side, and when each value is freed."""

from __future__ import annotations

from dataclasses import replace

from onnxpuma.ops.registry import resting_of
from onnxpuma.plan.bounds.checks import check_steps
from onnxpuma.plan.bounds.watch import watch_kept
from onnxpuma.plan.known.state import State
from onnxpuma.plan.plan import Plan, PlannedOutput, Step


def scheduled(state: State) -> Plan:
    """The plan that the walk has found. The range check is added here, once it is known which steps stay."""
    outputs = []
    blueprint, selection = state.blueprint, state.selection
    for name in selection.outputs:
        if name in state.unknown:
            continue
        known = state.values[name]
        shape = tuple(int(d) for d in known.type.shape or ())  # type: ignore[arg-type]
        secret = known.operand
        output = PlannedOutput(name, shape, known.type.dtype, resting_of(known.type.dtype, blueprint.resting))
        if secret is not None:
            output = replace(output, format=secret.resting, secret=True, beside=secret.beside)
        opened, kept, closed = (name in some for some in (selection.opened, selection.kept, blueprint.closed))
        outputs.append(replace(output, opened=opened, kept=kept, closed=closed))
    steps = _live(state.steps, {o.name for o in outputs} | state.wanted)
    wanted = {o.name for step in steps for o in step.call.inputs if o is not None}
    watch_kept(state)
    checks, verdict = check_steps(state, steps)
    steps += checks
    outputs += [] if verdict is None else [verdict]
    waves = _waves(steps, {o.name for o in outputs})
    wanted.update(o.name for o in outputs)
    inputs = tuple(v for k, v in state.inputs.items() if k in wanted)
    held = tuple(v for k, v in state.held.items() if k in wanted)
    known_values = {n: k.value for n, k in state.values.items() if k.value is not None}
    return Plan(
        blueprint.digest,
        waves,
        inputs,
        held,
        tuple(outputs),
        tuple(state.client_nodes),
        known_values,
        blueprint.graph.opset,
        state.network,
    )


def _live(steps: list[Step], wanted: set[str]) -> list[Step]:
    """The steps that the wanted values need."""
    wanted = set(wanted)
    kept = []
    for step in reversed(steps):
        if any(name in wanted for name in step.outputs):
            kept.append(step)
            wanted.update(o.name for o in step.call.inputs if o is not None and o.secret)
    return kept[::-1]


def _waves(steps: list[Step], outputs: set[str]) -> tuple[tuple[Step, ...], ...]:
    """Each step in the first wave that has its inputs. A wave frees the values that no later wave reads."""
    level: dict[str, int] = {}
    waves: list[list[Step]] = []
    for step in steps:
        here = max((level.get(o.name, 0) for o in step.call.inputs if o is not None and o.secret), default=0)
        for name in step.outputs:
            level[name] = here + 1
        while len(waves) <= here:
            waves.append([])
        waves[here].append(step)
    last: dict[str, int] = {}
    for number, wave in enumerate(waves):
        for step in wave:
            last.update((name, number) for name in step.outputs)
    for number, wave in enumerate(waves):
        for step in wave:  # the model's own weights stay: no step computes them, so `last` lacks them
            last.update(
                (o.name, number)
                for o in step.call.inputs
                if o is not None and (o.name in last or not o.weight)
            )
    ending: list[list[str]] = [[] for _ in waves]
    for name, number in last.items():
        if name not in outputs:
            ending[number].append(name)
    done = []
    index = 0
    for number, wave in enumerate(waves):
        frees = tuple(sorted(ending[number]))
        numbered = []
        for place, step in enumerate(wave):
            numbered.append(replace(step, index=index, frees=frees if place == len(wave) - 1 else ()))
            index += 1
        done.append(tuple(numbered))
    return tuple(done)
