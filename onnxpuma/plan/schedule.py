"""From what the walk has found to a plan: the steps that its outputs need, and the range check."""

from __future__ import annotations

from dataclasses import replace

from onnxpuma.ops.registry import resting_of
from onnxpuma.plan.bounds.checks import check_steps
from onnxpuma.plan.bounds.watch import watch_kept
from onnxpuma.plan.known.numbering import Numbering
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.tables import with_own_tables
from onnxpuma.plan.plan import Plan, PlannedOutput, Step


def scheduled(state: State, numbering: Numbering | None = None) -> Plan:
    """The plan that the walk has found. The range check is added here, once it is known which steps stay."""
    outputs, numbering = [], numbering or Numbering()
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
    wanted = set().union(*[step.reads for step in steps])
    state.budget.check_time()
    watch_kept(state)
    checks, verdict = check_steps(state, steps, numbering)
    steps += checks
    outputs += [] if verdict is None else [verdict]
    wanted.update(o.name for o in outputs)
    inputs = tuple(v for k, v in state.inputs.items() if k in wanted)
    held = tuple(v for k, v in state.held.items() if k in wanted)
    state.budget.check_time()
    known_values = {n: k.value for n, k in state.values.items() if k.value is not None}
    numbered = tuple(with_own_tables(state, numbering.numbered(steps)))
    state.budget.check_time()
    return Plan(
        blueprint.digest,
        numbered,
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
        if not wanted.isdisjoint(step.outputs):
            kept.append(step)
            wanted.update(step.reads)
    return kept[::-1]
