"""The registry: which operators have a kernel on shares, and what each kernel declares.

An operator is one function with its declared cost beside it. The planner asks the registry what exists, and
the documentation is generated from it. Facts that hold whoever computes an operator are in standard/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Protocol
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.limits import Limits, no_limit

FRACTION = 18  # of every resolved real value, as in PUMA (arXiv 2307.12533)
FINEST = 40  # of a weight below 2^-22: a product with it has 58, and stays as far from the end of a word


def resting_fraction(dtype: np.dtype[Any]) -> int:
    """Fraction bits of a resolved value: secret integers and booleans are whole words."""
    return FRACTION if dtype.kind == "f" else 0


@dataclass(frozen=True)
class Operand:
    """What the plan knows of one input or output of a step."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    # The array of a public operand; None for a secret one.
    value: np.ndarray | None = None
    # Replicated, Sum3 (a product still to be truncated) or SecretIds (ids that only the client knows).
    form: type = Replicated
    fraction: int = FRACTION
    # Computed from the owner's weights and public constants alone.
    weight: bool = False
    # Fraction bits beyond `FRACTION` that it keeps, as a weight of small numbers or a value computed from one
    # (plan/weights/scaling.py).
    finer: int = 0
    # Public numbers still to be added to the words of a secret operand (ops/beside.py).
    beside: np.ndarray | None = field(default=None, repr=False, compare=False)
    # How far a secret mask may put elements beyond ordinary values, and the kind of that mask (ops/reach.py).
    down: float = 0.0
    up: float = 0.0
    hollow: bool = False
    unit: bool = False
    negative: bool = False
    drowns: bool = False
    blurred: bool = False
    # The distance from zero that its readers need of a masked element; 0 where it is not known.
    enough: float = 0.0
    # The largest constant in it of which fixed point leaves few digits; 0 for none (ops/faint.py).
    faint: float = 0.0
    # The proved bound of a secret operand (ops/bounds.py).
    bound: Bound = field(default=UNKNOWN, repr=False, compare=False)

    @property
    def secret(self) -> bool:
        return self.value is None

    @property
    def reach(self) -> float:
        """How far out a secret mask may put it, in either direction."""
        return max(self.down, self.up)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def deferred(self) -> bool:
        """Still to be truncated: a product, or a value scaled by a public number."""
        return self.secret and (self.form is Sum3 or self.fraction != self.resting)

    @property
    def resting(self) -> int:
        """The fraction bits to which it is truncated."""
        return resting_fraction(self.dtype) + self.finer


@dataclass(frozen=True, eq=False)
class Use:
    """One use of an operator: the node and its operands, at known shapes.

    The planner asks with it whether a node that comes later will take an operand untruncated.
    """

    node: Node
    # None for an optional input that the node leaves out.
    inputs: tuple[Operand | None, ...]
    opset: int
    # Quantity (`Limit.key`) -> the bound that the owner's calibration found, margin included.
    bounds: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    def bound(self, key: str, default: float) -> float:
        """What a quantity of this use stays below (`Limit.key`): as calibrated, else `default`."""
        return self.bounds.get(key, default)

    def attribute(self, name: str) -> Any:
        """An attribute of the node, or the default of its schema."""
        return self.node.attribute(name)

    @property
    def axis(self) -> int:
        """The attribute of this name, counted from the first axis of the first input."""
        return int(self.node.attribute("axis")) % max(len(self.given(0).shape), 1)

    def operand(self, index: int) -> Operand | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def given(self, index: int) -> Operand:
        """An input that the operator's schema requires."""
        operand = self.inputs[index]
        assert operand is not None
        return operand

    def present(self, index: int) -> bool:
        return self.operand(index) is not None

    def secret(self, index: int) -> bool:
        operand = self.operand(index)
        return operand is not None and operand.secret

    def public(self, index: int) -> np.ndarray | None:
        operand = self.operand(index)
        return None if operand is None else operand.value

    @property
    def secrets(self) -> list[Operand]:
        return [o for o in self.inputs if o is not None and o.secret]


@dataclass(frozen=True, eq=False)
class Call(Use):
    """A use with its outputs: one call of a kernel."""

    outputs: tuple[Operand, ...]


_Kind = TypeVar("_Kind", bound="Operand | Use")


def altered(one: _Kind, **changes: Any) -> _Kind:
    """As `dataclasses.replace`, in a sixth of the time: a plan makes thousands of calls."""
    made = object.__new__(type(one))
    made.__dict__.update(one.__dict__, **changes)
    return made


Value: TypeAlias = "Shares | np.ndarray | None"  # an operand of a kernel: secret, public or absent
Resolved: TypeAlias = "Replicated | np.ndarray"  # a given operand, of an input that takes no products
Kernel: TypeAlias = Callable[..., Protocol[Sequence[Form]]]


@dataclass(frozen=True)
class Result:
    """The form and the fraction bits in which a kernel leaves its outputs."""

    form: type = Replicated
    fraction: int = FRACTION


def _nothing_more(call: Call) -> float:
    return 0.0


Fine: TypeAlias = "Callable[[Node], Mapping[int, int]]"
Beside: TypeAlias = "Callable[[Call], Sequence[np.ndarray | None]]"


def _none_finer(node: Node) -> Mapping[int, int]:
    return {}


def both_fine(node: Node) -> Mapping[int, int]:
    """Either factor of a plain product may be a weight of any scale."""
    return {0: FINEST, 1: FINEST}


def _free(call: Call) -> Cost:
    return FREE


def _resolved(call: Call) -> Result:
    return Result()


def _nothing_refused(call: Call) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A kernel and its declarations."""

    name: str
    # kernel(party, call, *values): a protocol that returns one form for each output. Public inputs arrive as
    # arrays, absent ones as None.
    kernel: Kernel
    cost: Callable[[Call], Cost] = _free  # rounds and bits, without the truncation that the plan may add
    result: Callable[[Call], Result] = _resolved  # form and fraction bits of the outputs
    defers: Callable[[Use, int], bool]  # whether this input may arrive untruncated
    refuse: Callable[[Call], str | None] = _nothing_refused  # why this use is not supported; None: it is
    # Which inputs may be secret, and the error, in the words of the documentation.
    secret: str = "all"
    error: str = "exact"
    layout: bool = False  # it only moves elements
    integers: bool = False  # it takes secret integers and booleans too
    tolerance: float = 1e-4  # the largest absolute error on operands of order one
    # The ranges in which that error holds; beyond them the result is silently wrong.
    limits: Limits = no_limit
    grows: Callable[[Call], float] = _nothing_more  # the error where it depends on the use
    # Inputs that may be weights of more fraction bits than `FRACTION`, each with the most it may have; two
    # factors share that number.
    fine: Fine = _none_finer
    # The public numbers beside its outputs, where it leaves those beside its inputs to the plan or handles
    # them itself; None for a kernel that takes words with nothing beside them.
    beside: Beside | None = None
    # It reads operands as far out as their `reach`, whatever its limits are.
    reaches: bool = False

    def error_of(self, call: Call) -> float:
        """The largest absolute error of this use, on operands of order one."""
        return max(self.tolerance, self.grows(call))


_OPERATORS: dict[str, Operator] = {}


def operator(
    *names: str,
    cost: Callable[[Call], Cost] = _free,
    result: Callable[[Call], Result] = _resolved,
    defers: Sequence[int] | Callable[[Use, int], bool] = (),
    refuse: Callable[[Call], str | None] = _nothing_refused,
    secret: str = Operator.secret,
    error: str = Operator.error,
    tolerance: float = Operator.tolerance,
    limits: Limits = no_limit,
    grows: Callable[[Call], float] = _nothing_more,
    layout: bool = False,
    integers: bool = False,
    fine: Fine = _none_finer,
    beside: Beside | None = None,
    reaches: bool = False,
) -> Callable[[Kernel], Kernel]:
    """Register a kernel under these operator names of the standard domain."""

    def register(kernel: Kernel) -> Kernel:
        for name in names:
            if name in _OPERATORS:
                raise ValueError(f"two kernels for {name}")
            _OPERATORS[name] = Operator(
                name=name,
                kernel=kernel,
                cost=cost,
                result=result,
                defers=defers if callable(defers) else (lambda call, index: index in defers),
                refuse=refuse,
                secret=secret,
                error=error,
                layout=layout,
                integers=layout or integers,
                tolerance=tolerance,
                limits=limits,
                grows=grows,
                fine=fine,
                beside=beside,
                reaches=reaches,
            )
        return kernel

    return register


def find(node: Node) -> Operator | None:
    """The operator of this node, None if there is no kernel for it."""
    return None if node.domain else _OPERATORS.get(node.op)


def operators() -> dict[str, Operator]:
    """All operators with a kernel, by name."""
    return dict(sorted(_OPERATORS.items()))


def as_first(call: Call) -> Result:
    """Outputs in the form of the first secret input: for operators that only move elements."""
    first = call.secrets[0]
    return Result(first.form, first.fraction)
