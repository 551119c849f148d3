"""A plan: the steps of one run at concrete shapes, the same at all three servers and at the client."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.graph.run import run_node
from onnxpuma.mpc.cost import FREE, Cost, Network
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.range_check import DOMAIN
from onnxpuma.ops.registry import Call, Operand, Operator, Result, altered
from onnxpuma.ops.spread import truncated_cost
from onnxpuma.plan.digests import digest_of, said_of

StepCourse: TypeAlias = "tuple[tuple[str, ...], tuple[str, ...], tuple[bool, ...]]"


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel."""

    index: int
    operator: Operator
    call: Call
    outputs: tuple[str, ...]
    # For each output, whether it is truncated before a step reads it.
    resolves: tuple[bool, ...]
    # It depends on weights and public constants alone, and is computed once for all requests.
    constant: bool
    # The part of the rows that it computes in a plan in lanes (plan/lanes/lanes.py); None where it computes
    # all of them.
    lane: int | None = None

    @cached_property
    def label(self) -> str:
        return f"{self.operator.name} {self.call.node.name}"

    @property
    def checks(self) -> bool:
        """Whether it belongs to the range check (plan/bounds/checks.py), and to no node of the graph."""
        return self.call.node.domain == DOMAIN

    def numbered(self, index: int) -> Step:
        """The same step, with all that it has found of itself, at another place."""
        return self if index == self.index else self._again(("refits",), index=index)

    def reading(self, inputs: Sequence[Operand | None]) -> Step:
        """The same step with other public inputs, which planning cannot tell from its own."""
        call = altered(self.call, inputs=tuple(inputs), content=self.call.content)
        return self._again(("refits", "digest"), call=call)

    def _again(self, forgotten: Sequence[str], **changed: Any) -> Step:
        """The same step but for some fields, with all else that it has found of itself."""
        made = object.__new__(Step)
        made.__dict__.update(self.__dict__, **changed)
        for name in forgotten:
            made.__dict__.pop(name, None)
        return made

    @cached_property
    def refits(self) -> dict[Hashable, tuple[Sequence[Operand | None], Step]]:
        """The same step with other operands, as found lately (plan/refits.py)."""
        return {}

    @cached_property
    def left(self) -> Mapping[str, Operand]:
        """The outputs as their readers find them."""
        return {
            o.name: altered(o, form=Replicated, format=o.resting) if resolves else o
            for o, resolves in zip(self.call.outputs, self.resolves, strict=True)
        }

    @cached_property
    def result(self) -> Result:
        """The form and the format in which its kernel leaves the outputs."""
        return self.call.content.once("result", lambda: self.operator.result(self.call))

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The secret values among its inputs."""
        return tuple(o.name for o in self.call.inputs if o is not None and o.secret)

    @cached_property
    def course(self) -> StepCourse:
        """The values that it makes, those that it reads, and which of these depend on weights alone."""
        weights = tuple([o.weight for o in self.call.inputs if o is not None and o.secret])
        return self.outputs, self.reads, weights

    @cached_property
    def digest(self) -> bytes:
        """A digest of all that determines the bytes that it sends."""
        return digest_of(self._said, self.call)

    @cached_property
    def _said(self) -> bytes:
        """What the digest covers beside arrays."""
        return said_of(self.call, self.label, self.outputs, self.resolves, self.constant)

    @cached_property
    def cost(self) -> Cost:
        """Rounds and bits, including the truncation of its outputs."""
        return self.call.content.once(("cost", self.resolves), self._cost)

    def _cost(self) -> Cost:
        total = self.operator.cost(self.call)
        after = Cost()
        for operand, resolves in zip(self.call.outputs, self.resolves, strict=True):
            if resolves:
                after |= truncated_cost(operand)
        return total + after


@dataclass(frozen=True)
class SecretInput:
    """A value that the client shares: reals in fixed point, or ids that index a table."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    format: Format
    # The rows of the table that ids index; 0 for other values.
    depth: int = 0
    # How far below zero the numbers of a mask go; the client moves smaller ones there (`saturated`).
    reach: float = 0.0
    # Conditions of its readers on its numbers, which the client checks in the clear.
    needs: tuple[Need, ...] = ()

    def saturated(self, values: np.ndarray) -> np.ndarray:
        """The values that the client shares in place of these."""
        if not self.reach:
            return values
        return np.where(np.isneginf(values), -self.reach, np.maximum(values, -self.reach / 2))

    @property
    def operand(self) -> str:
        """Its name in steps. A client shares ids that index two tables of different sizes once for each."""
        return f"{self.name} as rows of {self.depth}" if self.depth else self.name


@dataclass(frozen=True)
class Selection:
    """The outputs of a run. It computes only the values that they need."""

    # Outputs that the client learns.
    opened: tuple[str, ...]
    # Outputs that stay at the servers, secret-shared.
    kept: tuple[str, ...] = ()
    # Inputs that the servers have already, kept by an earlier run.
    held: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """All outputs, each once."""
        return tuple(dict.fromkeys((*self.opened, *self.kept)))


@dataclass(frozen=True)
class PlannedOutput:
    """An output of the run: opened by the client, kept at the servers, or both."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    format: Format
    # False for a value that the client knows before the run.
    secret: bool = False
    opened: bool = True
    kept: bool = False
    # No client may open it (plan/inputs/closed.py).
    closed: bool = False
    # It is the verdict, not an output of the model: zero if every value stayed in its range, else random
    # (plan/bounds/checks.py).
    verdict: bool = False
    # Public numbers that the client adds to the opened words (ops/beside.py).
    beside: np.ndarray | None = field(default=None, repr=False, compare=False)

    def completed(self, values: np.ndarray) -> np.ndarray:
        """The output, in its type, from the values of its words."""
        return (values if self.beside is None else values + self.beside).astype(self.dtype)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything public about a run."""

    model_digest: str
    # In the graph's order. Each starts as soon as its inputs are there, so many run side by side.
    steps: tuple[Step, ...]
    # The values that the client shares.
    inputs: tuple[SecretInput, ...]
    # The values that the servers kept from an earlier run.
    held: tuple[SecretInput, ...]
    outputs: tuple[PlannedOutput, ...]
    # The nodes that the client computes from its own input before it shares anything.
    client_nodes: tuple[Node, ...]
    # The public values by name.
    known: Mapping[str, np.ndarray] = field(repr=False)
    opset: int
    network: Network

    @property
    def opened(self) -> list[PlannedOutput]:
        """The secret outputs that are opened to the client."""
        return [output for output in self.outputs if output.secret and output.opened]

    @property
    def results(self) -> list[PlannedOutput]:
        """The outputs that the request names."""
        return [output for output in self.outputs if not output.verdict]

    @property
    def verdict(self) -> PlannedOutput | None:
        """The output that shows whether every value stayed in its range; None where nothing is checked."""
        return next((output for output in self.outputs if output.verdict), None)

    @property
    def kept(self) -> list[PlannedOutput]:
        """The outputs that stay at the servers."""
        return [output for output in self.outputs if output.kept]

    def taken_over(self, steps: tuple[Step, ...], known: Mapping[str, np.ndarray]) -> Plan:
        """The same plan with other late inputs (ops/late.py), which cost the same."""
        made = replace(self, steps=steps, known=known)
        found = self.__dict__
        made.__dict__.update({name: found[name] for name in ("cost", "_ends") if name in found})
        return made

    @cached_property
    def digest(self) -> str:
        """A digest over all steps, shapes and public values: everything that determines the bytes sent."""
        hashed = hashlib.sha256(self.model_digest.encode())
        for step in self.steps:
            hashed.update(step.digest)
        hashed.update(self._ends)
        return hashed.hexdigest()

    @cached_property
    def _ends(self) -> bytes:
        """What the digest covers beside steps."""
        return repr((self.inputs, self.held, self.outputs, self.network)).encode()

    @cached_property
    def cost(self) -> Cost:
        """Predicted rounds and bits of the whole run."""
        return total(self.steps)

    @cached_property
    def checks_cost(self) -> Cost:
        """The part of the range check in `cost`."""
        rest = total([step for step in self.steps if not step.checks])
        return Cost(self.cost.rounds - rest.rounds, self.cost.bits - rest.bits)

    def client_values(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every value the client knows: public ones, its inputs, and the results of these alone."""
        values: dict[str, np.ndarray] = {**self.known, **feed}
        for node in self.client_nodes:
            inputs = [None if name is None else values[name] for name in node.inputs]
            for name, value in zip(node.outputs, run_node(node, inputs, self.opset, values), strict=True):
                values[name] = value
        return values


def _cost_of(step: Step) -> Cost:
    return step.cost


def rounds_of(step: Step) -> int:
    """The rounds of a step; a constant one is computed once for all requests, and exchanges nothing."""
    return 0 if step.constant else step.cost.rounds


def spans(steps: Sequence[Step], rounds: Callable[[Step], int] = rounds_of) -> list[tuple[int, int]]:
    """For each step the numbers of rounds after which it starts and ends: it starts with its last input."""
    ready: dict[str, int] = {}
    found = []
    for step in steps:
        start = max([ready.get(name, 0) for name in step.reads], default=0)
        end = start + rounds(step)
        ready.update(dict.fromkeys(step.outputs, end))
        found.append((start, end))
    return found


def total(steps: Sequence[Step], cost_of: Callable[[Step], Cost] = _cost_of) -> Cost:
    """The cost of these steps, in the graph's order: the rounds of the longest path, and all bits."""
    costs = {id(step): FREE if step.constant else cost_of(step) for step in steps}
    ends = [end for _, end in spans(steps, lambda step: costs[id(step)].rounds)]
    return Cost(max(ends, default=0), sum(cost.bits for cost in costs.values()))
