"""What a request may cost: shapes alone decide its refusal, before any value of that size exists."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from onnxpuma.errors import InputError, OnnxpumaError
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols.dpf import SecretIds
from onnxpuma.plan.memory import ROW_BYTES, patched
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.timeline import turns_of

WORKSPACE = 4  # memory of a running step, in multiples of its operands and results
SENT_BYTES = 64  # for each element that a step computes; most operators send less
PUBLIC_SHARE = 8  # public values may take one part in this many of the memory
SMALL = 1 << 16  # elements; a public node whose result cannot be larger is not priced
MOST_ITERATIONS = 10_000  # iterations of a loop
LOOK = 16  # steps that a pass over a plan handles between two looks at the time


@dataclass
class Budget:
    """The limits of one request. Every refusal is an InputError that names the limit."""

    # Bytes that the request may take at one server.
    bytes: int
    # Elements of one input.
    elements: int
    # Bytes that one server may send for it.
    traffic: int
    # Time for planning.
    seconds: float
    # Bytes of the public values computed so far.
    spent: int = 0
    began: float = field(default_factory=lambda: time.monotonic())
    # Called at every look at the time, for a plan that is made in pieces.
    pause: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def check_inputs(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Refuse an input of too many elements."""
        for name, shape in shapes:
            count = _count(shape)
            if count > self.elements:
                raise InputError(
                    f"input '{name}' of shape {shape} has {count} elements, {self.elements} are allowed",
                    "take a smaller batch or a shorter sequence, or raise `elements` under [limits] in"
                    " cluster.toml",
                )

    @classmethod
    def unlimited(cls) -> Budget:
        """No limits, for a party that plans for itself."""
        return cls(1 << 62, 1 << 62, 1 << 62, float("inf"))

    def before_public(
        self, node: Node, inputs: Sequence[np.ndarray | None], infer: Callable[[], list[ValueType]]
    ) -> None:
        """Refuse a node that runs in the clear, if its result is too large. infer: its output types."""
        self.check_time()
        known = [value for value in inputs if value is not None]
        if node.op in ("Loop", "Scan") and not node.domain:
            self._check_iterations(node, inputs)
        bound = 1
        for value in known:
            bound *= max(1, int(value.size))
        if bound <= SMALL and not node.traits.free:
            return
        try:
            types = infer()
        except OnnxpumaError:
            return  # its input's values decide the shape, so the result is no larger than the input
        self.take_public(node.name, sum(_bytes(kind) for kind in types), keep=False)

    def take(self, what: str, size: int) -> None:
        """Refuse `what` if the `size` bytes that it needs when it runs are too many."""
        if self.spent + size > self.bytes:
            raise self._too_large(f"at '{what}' it", self.spent + size, self.bytes)

    def take_public(self, what: str, size: int, *, keep: bool = True) -> None:
        """Refuse `what` if planning it computes too many bytes of public values (`size`); else count them
        where they stay (`keep`).
        """
        allowed = self.bytes // PUBLIC_SHARE
        if self.spent + size > allowed:
            raise self._too_large(f"of public values at '{what}' it", self.spent + size, allowed)
        if keep:
            self.spent += size

    def before_secret(self, node: Node, given: Sequence[ValueType | None], made: Iterable[ValueType]) -> None:
        """Refuse a step that is about to be planned, by the types of its inputs and outputs."""
        self.check_time()
        shapes = [_shape(kind) for kind in made]
        count = sum(map(_count, shapes))
        count += hidden_elements(node, [None if kind is None else _shape(kind) for kind in given], shapes)
        self.take(node.name, RESTING.held * count)

    def check_time(self) -> None:
        """Refuse a plan that takes too long. Planning looks often: within a few milliseconds."""
        if self.pause is not None:
            self.pause()
        if time.monotonic() > self.began + self.seconds:
            raise InputError(
                f"planning the request takes more than {self.seconds:g} s",
                "take smaller inputs, or raise `planning` under [limits] in cluster.toml",
            )

    def check_plan(self, plan: Plan) -> None:
        """Refuse a plan that needs too much memory or sends too much."""
        needed = needed_bytes(plan)
        if needed > self.bytes:
            raise self._too_large("it", needed, self.bytes)
        traffic = SENT_BYTES * _needed_by(plan).made
        if traffic > self.traffic:
            raise InputError(
                f"each server would send up to {traffic / 1e6:.0f} MB for the request,"
                f" {self.traffic / 1e6:.0f} MB are allowed",
                "take smaller inputs, or raise `traffic_megabytes` under [limits] in cluster.toml",
            )

    def _check_iterations(self, node: Node, inputs: Sequence[np.ndarray | None]) -> None:
        if node.op == "Loop":
            turns = 0 if inputs[0] is None else int(np.asarray(inputs[0]).reshape(-1)[0])
        else:
            turns = max((max(v.shape, default=0) for v in inputs if v is not None), default=0)
        if turns > MOST_ITERATIONS:
            raise InputError(
                f"'{node.name}' would run up to {turns} iterations, {MOST_ITERATIONS} are allowed",
                "take smaller inputs",
            )

    def _too_large(self, what: str, size: int, allowed: int) -> InputError:
        return InputError(
            f"the request is too large: {what} needs {size / 1e6:.0f} MB at each server,"
            f" {allowed / 1e6:.0f} MB are allowed",
            "take a smaller batch or a shorter sequence, or raise `request_megabytes` under [limits] in"
            " cluster.toml",
        )


class _Needed(NamedTuple):
    """What a plan needs."""

    # Bytes.
    memory: int
    # Elements that its steps compute.
    made: int


_needed: WeakKeyDictionary[Plan, _Needed] = WeakKeyDictionary()


def needed_bytes(plan: Plan) -> int:
    """An upper estimate of the memory that one server needs to run a plan: live values, and the workspace of
    the steps that run side by side, as if each took equally long. Cost: proportional to the number of steps,
    whatever their sizes, and nothing the second time."""
    return _needed_by(plan).memory


def needs_as_much(plan: Plan, other: Plan) -> None:
    """Note that a plan needs what another needs, of the same steps on other numbers."""
    _needed[plan] = _needed_by(other)


def _needed_by(plan: Plan) -> _Needed:
    found = _needed.get(plan)
    if found is None:
        found = _needed[plan] = _estimate(plan)
    return found


def _estimate(plan: Plan) -> _Needed:
    given = {entry.operand: entry.format.held * _count(entry.shape) for entry in (*plan.inputs, *plan.held)}
    needs, turns = [_needs(step) for step in plan.steps], turns_of(plan)
    # In floats, which stay as exact as the estimate is, however large a request is.
    work = np.array([one.workspace for one in needs], np.float64)
    outputs = np.array([size for one in needs for size in one.outputs], np.float64)
    change = np.zeros(2 * len(needs))
    change[turns.starts] = work + [one.held for one in needs]
    change[turns.ends] = -work
    np.subtract.at(change, turns.freed_at, outputs[turns.freed])
    for name, place in turns.given:
        change[place] -= given.get(name, 0)
    most = max(0.0, change.cumsum().max(initial=0.0))
    memory = sum(given.values()) + public_bytes(plan) + int(most)
    return _Needed(memory, sum([one.made for one in needs]))


_NEEDS = ("needs", False), ("needs", True)  # by whether the step is constant


class _Needs(NamedTuple):
    """What a step needs."""

    # Elements that it computes.
    made: int
    # Bytes while it runs.
    workspace: int
    # Bytes of each output, and of all of them.
    outputs: list[int]
    held: int


def _needs(step: Step) -> _Needs:
    return step.call.content.once(_NEEDS[step.constant], partial(_found_needs, step))


def _found_needs(step: Step) -> _Needs:
    view = _moves_weights(step)
    outputs = [0 if view else o.format.held * _count(o.shape) for o in step.call.outputs]
    return _Needs(_made(step), _workspace(step), outputs, sum(outputs))


def _workspace(step: Step) -> int:
    read = sum(_count(o.shape) for o in step.call.inputs if o and not o.weight)
    return WORKSPACE * RESTING.held * (_made(step) + read) + ROW_BYTES * _rows(step)


def _made(step: Step) -> int:
    """Elements that a step computes, including those inside it."""
    call = step.call
    if _moves_weights(step):
        return 0
    made = [o.shape for o in call.outputs]
    hidden = hidden_elements(call.node, [None if o is None else o.shape for o in call.inputs], made)
    return sum(map(_count, made)) + hidden


def _moves_weights(step: Step) -> bool:
    """Whether a step is another view of a weight, which takes no memory of its own."""
    return step.constant and step.operator.moves


def _rows(step: Step) -> int:
    """Rows of tables that a step reads for secret ids: the whole table for each id."""
    call = step.call
    return sum(_count(o.shape) * call.given(0).shape[0] for o in call.inputs if o and o.form is SecretIds)


def hidden_elements(
    node: Node, shapes: Sequence[tuple[int, ...] | None], made: Sequence[tuple[int, ...]] = ()
) -> int:
    """Elements that exist only inside an operator: the scores of an attention, the patches of a convolution
    or a pool."""
    known = [shape for shape in shapes if shape is not None]
    if node.op == "Attention" and len(shapes) > 1 and len(known) > 1:
        (batch, *query), key = known[0], known[1]
        heads = query[0] if len(query) == 3 else int(node.attribute("q_num_heads") or 1)
        queries, keys = query[-2], key[-2]
        past = shapes[4] if len(shapes) > 4 else None
        return batch * heads * queries * (keys + (past[-2] if past else 0))
    return patched(node, shapes, made)


def public_bytes(plan: Plan) -> int:
    """Bytes of the public arrays of a plan."""
    return sum(value.nbytes for value in plan.known.values())


def _shape(kind: ValueType) -> tuple[int, ...]:
    return tuple(int(d or 0) for d in kind.shape or ())


def _bytes(kind: ValueType) -> int:
    return _count(_shape(kind)) * max(1, kind.dtype.itemsize)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= int(extent)
    return total
