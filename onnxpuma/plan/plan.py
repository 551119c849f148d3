"""A plan: the steps of one run at concrete shapes, the same at all three servers and at the client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.graph.run import run_node
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.range_check import DOMAIN
from onnxpuma.ops.registry import Call, Operator
from onnxpuma.ops.spread import truncated_cost


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel. `resolves`: outputs that are truncated before anybody reads them."""

    index: int
    operator: Operator
    call: Call
    outputs: tuple[str, ...]
    resolves: tuple[bool, ...]
    constant: bool  # made of weights and public constants alone: computed once for all requests
    frees: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.operator.name} {self.call.node.name}"

    @property
    def checks(self) -> bool:
        """It belongs to the range check (plan/bounds/checks.py), and to no node of the graph."""
        return self.operator.domain == DOMAIN

    @cached_property
    def cost(self) -> Cost:
        """Rounds and bits, the truncation of its outputs included."""
        total = self.operator.cost(self.call)
        after = Cost()
        for operand, resolves in zip(self.call.outputs, self.resolves, strict=True):
            if resolves:
                after |= truncated_cost(operand)
        return total + after


@dataclass(frozen=True)
class SecretInput:
    """A value that the client shares: reals in fixed point, or ids that index a table of `depth` rows.

    reach: of a mask, how far below zero its numbers go; the client moves those beyond there (`saturated`).
    needs: what is asked of its numbers by those who read it, which the client sees to in the clear.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    format: Format
    depth: int = 0
    reach: float = 0.0
    needs: tuple[Need, ...] = ()

    def saturated(self, values: np.ndarray) -> np.ndarray:
        """What is shared of these values."""
        if not self.reach:
            return values
        return np.where(np.isneginf(values), -self.reach, np.maximum(values, -self.reach / 2))

    @property
    def operand(self) -> str:
        """What steps call it: ids that index two tables of different sizes are shared for each."""
        return f"{self.name} as rows of {self.depth}" if self.depth else self.name


@dataclass(frozen=True)
class Selection:
    """What a run is for. Nothing but what these outputs need is computed.

    opened: outputs that the client learns. kept: outputs that stay at the servers, secret-shared. held:
    inputs that the servers hold already, kept by an earlier run.
    """

    opened: tuple[str, ...]
    kept: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.opened, *self.kept)))


@dataclass(frozen=True)
class PlannedOutput:
    """An output of the run: secret, or known to the client before; opened by the client, kept, or both.

    beside: public numbers that the words do not hold (ops/beside.py): the client adds them to what it opens.
    closed: it may be kept, and nobody opens it (plan/inputs/closed.py). verdict: none of the model's, but
    zero if every value stayed in its range, else random (plan/bounds/checks.py).
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    format: Format
    secret: bool = False
    opened: bool = True
    kept: bool = False
    closed: bool = False
    verdict: bool = False
    beside: np.ndarray | None = field(default=None, repr=False, compare=False)

    def completed(self, values: np.ndarray) -> np.ndarray:
        """The output, in its type, of which the words held these values."""
        return (values if self.beside is None else values + self.beside).astype(self.dtype)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything public about a run.

    waves: steps that do not depend on one another run side by side. inputs: what the client shares. held:
    what the servers hold already. client_nodes: what the client computes from its own input before it shares
    anything. known: public values by name.
    """

    model_digest: str
    waves: tuple[tuple[Step, ...], ...]
    inputs: tuple[SecretInput, ...]
    held: tuple[SecretInput, ...]
    outputs: tuple[PlannedOutput, ...]
    client_nodes: tuple[Node, ...]
    known: Mapping[str, np.ndarray] = field(repr=False)
    opset: int

    @property
    def opened(self) -> list[PlannedOutput]:
        """The secret outputs that are opened to the client."""
        return [output for output in self.outputs if output.secret and output.opened]

    @property
    def results(self) -> list[PlannedOutput]:
        """The outputs that somebody asked for."""
        return [output for output in self.outputs if not output.verdict]

    @property
    def verdict(self) -> PlannedOutput | None:
        """What tells the client whether every value stayed in its range; None where nothing is checked."""
        return next((output for output in self.outputs if output.verdict), None)

    @property
    def kept(self) -> list[PlannedOutput]:
        """The outputs that stay at the servers."""
        return [output for output in self.outputs if output.kept]

    @property
    def steps(self) -> list[Step]:
        return [step for wave in self.waves for step in wave]

    @cached_property
    def digest(self) -> str:
        """A digest over every step, shape and public value that decides what is sent."""
        hashed = hashlib.sha256(self.model_digest.encode())
        for wave in self.waves:
            hashed.update(b"wave")
            for step in wave:
                bounds = sorted(step.call.bounds.items())
                hashed.update(repr((step.label, step.outputs, step.resolves, step.constant, bounds)).encode())
                for operand in step.call.inputs:
                    if operand is None:
                        continue
                    hashed.update(
                        repr((operand.name, operand.shape, operand.form.__name__, *operand.format)).encode()
                    )
                    if operand.value is not None:
                        hashed.update(np.ascontiguousarray(operand.value).tobytes())
        hashed.update(repr((self.inputs, self.held, self.outputs)).encode())
        return hashed.hexdigest()

    @cached_property
    def cost(self) -> Cost:
        """Predicted rounds and bits of the whole run."""
        return self._cost(self.waves)

    @cached_property
    def checks_cost(self) -> Cost:
        """What of it is the range check's."""
        rest = self._cost(tuple(step for step in wave if not step.checks) for wave in self.waves)
        return Cost(self.cost.rounds - rest.rounds, self.cost.bits - rest.bits)

    @staticmethod
    def _cost(waves: Iterable[tuple[Step, ...]]) -> Cost:
        total = Cost()
        for wave in waves:
            side = Cost()
            for step in wave:
                if not step.constant:
                    side |= step.cost
            total = total + side
        return total

    def client_values(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every value the client knows: its inputs, and what follows from them and public values alone."""
        values: dict[str, np.ndarray] = {**self.known, **feed}
        for node in self.client_nodes:
            inputs = [None if name is None else values[name] for name in node.inputs]
            for name, value in zip(node.outputs, run_node(node, inputs, self.opset, values), strict=True):
                values[name] = value
        return values
