"""How long a run computes: the work of one party, counted from shapes, at the speed of this machine.

The three servers are three machines like this one. Ring products use all cores; the rest runs on one. What
the links take is the network's (mpc/cost.py), except that no link is faster than its ends encrypt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.ops.registry import Call
from onnxpuma.plan.examine.machine import BYTE_SECONDS, MESSAGE_SECONDS, Machine
from onnxpuma.plan.lanes.lanes import cost_in_lanes, links_seconds
from onnxpuma.plan.memory import scores
from onnxpuma.plan.plan import Plan, Step

_COMPONENTS = 2  # of a shared value that a party holds: twice the products of a run in the clear
_SEED_BYTES = 16  # of each row of a table, for each key of an id
_LOOK_UP = 4  # bytes of a word of a look-up


@dataclass
class Work:
    """What one party computes in a run."""

    # By the bytes of a word: products of words, and words of the matrices on the right.
    products: dict[int, int] = field(default_factory=dict)
    matrices: dict[int, int] = field(default_factory=dict)
    # Bytes of pseudo-random streams, without those that protocols draw for their messages.
    streams: int = 0
    # Elements that steps without messages make.
    elements: int = 0
    # Rounds of all steps, also of those that share them.
    rounds: int = 0


@dataclass(frozen=True)
class Seconds:
    """The predicted seconds of a run, part by part."""

    # The links: rounds times latency, and bytes at the network's rate or, if less, that of encryption. In
    # lanes, only the seconds of bytes beyond those of computing.
    links: float
    # One party's computing: ring products; pseudo-random streams and arithmetic, by elements; Python and the
    # handling of messages, by rounds.
    products: float
    elements: float
    rounds: float
    # The cores of each machine.
    cores: int

    @property
    def computing(self) -> float:
        return self.products + self.elements + self.rounds

    @property
    def whole(self) -> float:
        return self.links + self.computing


def predicted(plan: Plan, network: Network, machine: Machine, cores: int) -> Seconds:
    """The seconds of a run on three machines like `machine`, with `cores` cores each."""
    work, cost = work_of(plan), cost_in_lanes(plan)
    products = sum(machine.product[size] * count for size, count in work.products.items())
    products += sum(machine.matrix[size] * count for size, count in work.matrices.items())
    found = Seconds(
        0.0,
        products / cores,
        machine.bit * cost.bits + machine.stream * work.streams + machine.element * work.elements,
        machine.round * work.rounds + MESSAGE_SECONDS * cost.rounds,
        cores,
    )
    ends = Network(min(network.bandwidth, 8 / BYTE_SECONDS), network.latency)
    return replace(found, links=links_seconds(plan, ends, found.computing))


def work_of(plan: Plan) -> Work:
    """The work of one party in this plan."""
    work = Work()
    for step in plan.steps:
        if not step.constant:
            _add(work, step)
    return work


def _add(work: Work, step: Step) -> None:
    call = step.call
    made = sum(o.size for o in call.outputs)
    work.rounds += step.cost.rounds
    if not step.cost.rounds:
        work.elements += made
    table = call.operand(0)
    ids = next((o for o in call.inputs if o is not None and o.form is SecretIds), None)
    if ids is not None and table is not None:
        rows, width = table.shape[0], math.prod(table.shape[1:])
        _count(work, _LOOK_UP, ids.size * rows * width, rows * width)
        work.streams += _COMPONENTS * _SEED_BYTES * ids.size * rows
        return
    counted = _PRODUCTS.get(step.operator.name)
    if counted is not None and call.secrets:
        size = 8 if max(o.format.bits for o in (*call.secrets, *call.outputs)) > 32 else 4
        for products, words in counted(call):
            _count(work, size, products, words)
        work.streams += _COMPONENTS * size * made


def _count(work: Work, size: int, products: int, words: int) -> None:
    work.products[size] = work.products.get(size, 0) + _COMPONENTS * products
    work.matrices[size] = work.matrices.get(size, 0) + _COMPONENTS * words


Counts = list[tuple[int, int]]  # products, and words of the matrix on the right


def _matmul(call: Call) -> Counts:
    a, b = call.given(0), call.given(1)
    return [(call.outputs[0].size * a.shape[-1], b.size)]


def _gemm(call: Call) -> Counts:
    depth = call.given(0).shape[0 if call.attribute("transA") else 1]
    return [(call.outputs[0].size * depth, call.given(1).size)]


def _attention(call: Call) -> Counts:
    q, k, v = (call.given(place) for place in range(3))
    heads = 1 if len(q.shape) == 4 else int(call.attribute("q_num_heads"))
    depth = q.shape[-1] // heads
    of_values = call.outputs[0].size // max(1, q.size // depth)
    count = scores(call)
    return [(count * depth, k.size), (count * of_values, v.size)]


def _convolution(call: Call) -> Counts:
    w, y = call.given(1), call.outputs[0]
    return [(y.size * math.prod(w.shape[1:]), w.size)]


def _transposed(call: Call) -> Counts:
    x, w = call.given(0), call.given(1)
    products = x.size * math.prod(w.shape[1:])
    return [(products, w.size)]


_PRODUCTS: dict[str, Callable[[Call], Counts]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Attention": _attention,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
}
