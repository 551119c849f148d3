"""What a request may cost: refused from its shapes alone, before a value of that size is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxpuma.errors import InputError, OnnxpumaError
from onnxpuma.graph.model import Node, ValueType
from onnxpuma.ops.registry import Call, Operator
from onnxpuma.plan.control import MOST_TURNS
from onnxpuma.plan.plan import Plan, SecretInput

WORD_BYTES = 16  # two components of 64 bits at each server
ID_BYTES = 4  # for each row of a table, of an id's key when it is expanded
WORKSPACE = 3  # times a step's operands and results, besides them
SMALL = 1 << 16  # elements
# The size of what these make is in the values of their inputs, not in their sizes.
_FREE = frozenset(
    ("Expand", "Tile", "ConstantOfShape", "Range", "Resize", "Upsample", "Pad", "OneHot", "EyeLike",
     "RandomNormal", "RandomUniform", "CenterCropPad", "Col2Im", "MaxUnpool", "GridSample", "AffineGrid",
     "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "STFT", "DFT", "Scan", "Loop")
)  # fmt: skip


@dataclass
class Budget:
    """bytes: that a request may take at one server. elements: of one input. traffic: bytes that one server
    may send for it. seconds: for planning. Every refusal is an InputError that names the limit."""

    bytes: int
    elements: int
    traffic: int
    seconds: float
    spent: int = 0
    began: float = field(default_factory=lambda: time.monotonic())

    def check_inputs(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Of a request nothing but its shapes is needed for this."""
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
        """For whoever plans for itself."""
        return cls(1 << 62, 1 << 62, 1 << 62, float("inf"))

    def before_public(
        self, node: Node, inputs: Sequence[np.ndarray | None], infer: Callable[[], list[ValueType]]
    ) -> None:
        """A node is about to run in the clear: what will it make? infer: the types of its outputs."""
        self.check_time()
        known = [value for value in inputs if value is not None]
        if node.op in ("Loop", "Scan") and not node.domain:
            self._check_turns(node, inputs)
        bound = 1
        for value in known:
            bound *= max(1, int(value.size))
        if bound <= SMALL and node.op not in _FREE:
            return
        try:
            types = infer()
        except OnnxpumaError:
            return  # a shape that its values decide, and so no larger than they are
        self.take(node.name, sum(_bytes(kind) for kind in types), keep=False)

    def take(self, what: str, size: int, *, keep: bool = True) -> None:
        """`size` bytes are needed for `what`; from now on, or only just now."""
        if self.spent + size > self.bytes:
            raise self._too_large(f"at '{what}' it", self.spent + size)
        if keep:
            self.spent += size

    def before_secret(self, node: Node, types: Iterable[ValueType]) -> None:
        """A step is about to be planned that makes values of these types."""
        self.check_time()
        for kind in types:
            self.take(node.name, WORD_BYTES * _bytes(kind) // max(1, kind.dtype.itemsize), keep=False)

    def before_step(self, operator: Operator, call: Call) -> None:
        """A step is about to be priced: what its kernel will hold of its own."""
        self.take(call.node.name, WORKSPACE * WORD_BYTES * operator.inside(call), keep=False)

    def check_time(self) -> None:
        if time.monotonic() > self.began + self.seconds:
            raise InputError(
                f"planning the request takes more than {self.seconds:g} s",
                "take smaller inputs, or raise `planning` under [limits] in cluster.toml",
            )

    def check_plan(self, plan: Plan) -> None:
        """What the whole run will need and send."""
        needed = needed_bytes(plan)
        if needed > self.bytes:
            raise self._too_large("it", needed)
        traffic = int(plan.cost.bytes / 3)
        if traffic > self.traffic:
            raise InputError(
                f"each server would send {traffic / 1e6:.0f} MB for the request, {self.traffic / 1e6:.0f} MB"
                " are allowed",
                "take smaller inputs, or raise `traffic_megabytes` under [limits] in cluster.toml",
            )

    def _check_turns(self, node: Node, inputs: Sequence[np.ndarray | None]) -> None:
        if node.op == "Loop":
            turns = 0 if inputs[0] is None else int(np.asarray(inputs[0]).reshape(-1)[0])
        else:
            turns = max((max(v.shape, default=0) for v in inputs if v is not None), default=0)
        if turns > MOST_TURNS:
            raise InputError(
                f"'{node.name}' would turn up to {turns} times, {MOST_TURNS} are allowed",
                "take smaller inputs",
            )

    def _too_large(self, what: str, size: int) -> InputError:
        return InputError(
            f"the request is too large: {what} needs {size / 1e6:.0f} MB at each server,"
            f" {self.bytes / 1e6:.0f} MB are allowed",
            "take a smaller batch or a shorter sequence, or raise `request_megabytes` under [limits] in"
            " cluster.toml",
        )


def needed_bytes(plan: Plan) -> int:
    """About how much memory one server needs to run a plan, at most: what is alive, and what the steps of a
    wave work with; what they send included."""
    sizes = {entry.operand: WORD_BYTES * _count(entry.shape) for entry in plan.held}
    sizes.update((entry.operand, _shared_bytes(entry)) for entry in plan.inputs)
    live = sum(sizes.values()) + public_bytes(plan)
    most = live
    for wave in plan.waves:
        work = 0
        for step in wave:
            made = 0
            for operand in step.call.outputs:
                sizes[operand.name] = WORD_BYTES * _count(operand.shape)
                made += sizes[operand.name]
            read = sum(WORD_BYTES * _count(o.shape) for o in step.call.inputs if o and not o.weight)
            live += made
            own = WORD_BYTES * step.operator.inside(step.call)
            work += WORKSPACE * (made + read + own) + int(step.cost.bytes / 3)
        most = max(most, live + work)
        for name in wave[-1].frees:
            live -= sizes.pop(name, 0)
    return most


def _shared_bytes(entry: SecretInput) -> int:
    """Of what a client shares: two components, and of ids the rows that two keys expand to (mpc/dpf.py)."""
    return _count(entry.shape) * (2 * ID_BYTES * entry.depth if entry.depth else WORD_BYTES)


def public_bytes(plan: Plan) -> int:
    """Bytes of the public arrays that a plan holds."""
    return sum(value.nbytes for value in plan.known.values())


def _bytes(kind: ValueType) -> int:
    return _count(tuple(int(d or 0) for d in kind.shape or ())) * max(1, kind.dtype.itemsize)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= int(extent)
    return total
