"""Open every value of a run on shares and compare it with onnxruntime: where does the error begin?

This is for the model's owner, who has the weights: all three parties run in this process, and nothing is
secret here. Each node is computed twice in the clear: on onnxruntime's own values so far, which shows how far
the secure run has drifted, and on the operands of the secure run, which shows the error that this node adds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from onnxpuma.graph.model import Graph
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.ring.words import decode
from onnxpuma.mpc.sharing import opened
from onnxpuma.observe import Progress
from onnxpuma.ops.beside import unmasked
from onnxpuma.ops.registry import Operand
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.clear import ClearRun
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.roles.local.memory import interpreters_of, run_plan
from onnxpuma.standard.fixed_point import UNIT
from onnxpuma.standard.mask_values import LARGEST, SURELY_MASKED

SLACK = 4.0  # times an operator's declared error at the size of the result
SINGLE = 2.0**-20  # of the operands: the precision of onnxruntime's own numbers
WEIGHT = UNIT / 2  # the rounding of a weight
WAIT = 3600.0  # seconds that a party waits while a node is computed in the clear


@dataclass(frozen=True)
class RangeUse:
    """One range of a node's operator (docs/operators.md), and how near a quantity came to its end."""

    what: str
    value: float  # the quantity nearest to the end
    bounds: str
    inside: bool


@dataclass(frozen=True)
class NodeError:
    """One output of one node of the canonical graph."""

    node: str
    operator: str
    output: str
    shape: tuple[int, ...]
    error: float  # the largest difference from onnxruntime
    own_error: float  # the same from the node computed in the clear on the operands that it had on shares
    allowed: float  # the node departs if own_error is larger
    magnitude: float  # the largest finite number in onnxruntime's result
    ranges: list[RangeUse] = field(default_factory=list)  # of the operator

    @property
    def departs(self) -> bool:
        """Whether the node's own error, not that of its operands, exceeds its operator's."""
        return not self.own_error <= self.allowed

    @property
    def outside(self) -> list[RangeUse]:
        """The ranges that the operands left."""
        return [use for use in self.ranges if not use.inside]


@dataclass(frozen=True)
class NodeTrace:
    """All nodes that ran on shares."""

    nodes: list[NodeError]  # in the order in which they ran
    outputs: dict[str, float]  # the largest error of each of the model's outputs

    @property
    def first(self) -> NodeError | None:
        """The first node that departs by its own fault."""
        return next((node for node in self.nodes if node.departs), None)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        first = self.first
        return {
            "first": None if first is None else first.node,
            "nodes": [{**asdict(node), "departs": node.departs} for node in self.nodes],
            "outputs": self.outputs,
        }


def trace(
    blueprint: Blueprint,
    graph: Graph,
    feed: Mapping[str, np.ndarray],
    progress: Progress | None = None,
    network: Network = USUAL,
) -> NodeTrace:
    """Run `graph`, which has its weights, on shares in this process, and compare node by node.

    feed: complete, as `check_feed` returns it. Memory: 24 bytes a weight, and three times the values that
    later nodes read. Raises what planning raises, and ModelError for a node that cannot run in the clear.
    """
    shapes = {name: value.shape for name, value in feed.items()}
    public = {name: feed[name] for name in blueprint.public_inputs}
    plan = compile_plan(blueprint, shapes, public, network=network)
    seen = _Comparison(plan, graph, plan.client_values(feed))
    watched = [seen.of_party(index) for index in range(3)]
    run_plan(plan, feed, interpreters_of(blueprint, graph), WAIT, watched, progress)
    wanted = {output.name for output in plan.outputs}
    return NodeTrace(seen.found, {n.output: n.error for n in seen.found if n.output in wanted})


class _Comparison:
    """Collects the parties' shares of each step, and compares a step once all three have delivered."""

    def __init__(self, plan: Plan, graph: Graph, known: Mapping[str, np.ndarray]) -> None:
        self.found: list[NodeError] = []
        self._clear, self._secure = ClearRun(plan, graph, known), ClearRun(plan, graph, known)
        self._parts: dict[int, list[Sequence[Form]]] = {}
        self._lock = threading.Lock()

    def of_party(self, index: int) -> Callable[[Step, Sequence[Form]], None]:
        def watched(step: Step, outputs: Sequence[Form]) -> None:
            with self._lock:
                parts = self._parts.setdefault(step.index, [])
                parts.append(outputs)
                if len(parts) == 3:
                    self._step(step, self._parts.pop(step.index))

        return watched

    def _step(self, step: Step, parts: list[Sequence[Form]]) -> None:
        if step.checks:
            self._free(step)
            return
        plain = self._clear.results(step, self._clear.inputs(step))
        operands = self._secure.inputs(step)
        again = self._secure.results(step, operands)
        secure = [
            _opened([part[place] for part in parts], operand)
            for place, operand in enumerate(step.call.outputs)
        ]
        ranges = _ranges(step, operands, again)
        for place, name in enumerate(step.outputs):
            if name:
                ours, own = secure[place], again[place]
                self.found.append(
                    NodeError(
                        step.call.node.name,
                        step.operator.name,
                        name,
                        tuple(ours.shape),
                        _apart(ours, plain[place], step.call.outputs[place].reach),
                        _apart(ours, own, step.call.outputs[place].reach),
                        _allowed(step, operands, own),
                        _magnitude(plain[place]),
                        ranges,
                    )
                )
        self._clear.keep(step, plain)
        self._secure.keep(step, secure)
        self._free(step)

    def _free(self, step: Step) -> None:
        for run in (self._clear, self._secure):
            run.free(step)


def _opened(forms: Sequence[Form], operand: Operand) -> np.ndarray:
    first = forms[0]
    parts = [form.as_sum().words for form in forms if isinstance(form, (Sum3, Replicated))]
    values = decode(opened(parts, first.bits), first.fraction, first.bits)
    return (values if operand.beside is None else values + operand.beside).astype(operand.dtype)


def _apart(ours: np.ndarray, theirs: np.ndarray, reach: float = 0.0) -> float:
    """The largest difference. NaN in the clear does not count, nor does the exact size of a mask's numbers
    that are far out on both sides."""
    x, y = ours.astype(np.float64), theirs.astype(np.float64)
    same = np.isnan(y) | (x == y)
    far = (reach or LARGEST) / 4
    same |= (np.abs(y) >= far) & (np.abs(x) >= far) & (np.sign(x) == np.sign(y))
    with np.errstate(invalid="ignore"):
        return float(np.max(np.where(same, 0.0, np.abs(x - y)), initial=0.0))


def _magnitude(values: np.ndarray | None) -> float:
    """The largest finite number that is no mask's."""
    if values is None or values.dtype.kind not in "fiub":
        return 0.0
    real = np.abs(values.astype(np.float64))
    return float(np.max(real, where=np.isfinite(real) & (real < -SURELY_MASKED), initial=0.0))


def _allowed(step: Step, operands: Sequence[np.ndarray | None], result: np.ndarray) -> float:
    """The error that this node may have on these operands; a wrong bit or index is always too much."""
    if result.dtype.kind != "f":
        return 0.5
    expected = SLACK * step.operator.error_of(step.call) * max(1.0, _magnitude(result))
    if step.operator.cost(step.call).rounds:
        return expected
    # Large numbers may cancel in a sum or product. Onnxruntime rounds them too, and weights are fixed point.
    largest = max((_magnitude(values) for values in operands), default=0.0)
    length = max((values.shape[-1] for values in operands if values is not None and values.ndim), default=1)
    return float(expected + largest * (SINGLE + WEIGHT * np.sqrt(length) * (len(step.call.secrets) > 1)))


def _ranges(
    step: Step, operands: Sequence[np.ndarray | None], results: Sequence[np.ndarray]
) -> list[RangeUse]:
    call, found = step.call, []
    operands = unmasked(operands, call.inputs)
    results = [v for v in unmasked(results, call.outputs) if v is not None]
    for limit in limits_of(step):
        measured = limit.measured(call, operands, results)
        if measured is not None:
            found.append(RangeUse(limit.what, measured[0], limit.bounds, measured[1]))
    return found
