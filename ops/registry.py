"""The registry: what the house knows of each ONNX operator, and the only place that knows it.

An operator is one function: a kernel on shares, with its declared cost beside it. The planner asks the
registry what exists, the interpreter calls what it finds, the documentation is generated from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Protocol
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.limits import Limits, no_limit

FINEST = RESTING.bits - 6 - RESTING.fraction  # of a weight: its product with a value leaves 6 bits above it


def resting_of(dtype: np.dtype[Any], reals: Format) -> Format:
    """The format in which values of this type rest. Integers and booleans are whole words."""
    return reals if dtype.kind == "f" else reals.at(0)


@dataclass(frozen=True)
class Operand:
    """What the plan knows of one input or output of a step.

    `value` is the array of a public operand, None for a secret one. `form` is Replicated, Sum3 (a product
    that is still to be truncated) or SecretIds (ids that only the client knows). `format`: of its words.
    `resting`: the format to which it is truncated; a weight of small numbers, and what is made of one, keeps
    more fraction bits than other values (plan/weights/scaling.py). `weight`: made of the owner's weights and
    public constants alone.
    `beside`: public numbers still to be added to the words of a secret one (ops/beside.py). `down`, `up`: how
    far a secret one may lie beyond what values are, for the sake of a mask that is secret too, and `hollow`,
    `unit`, `negative`, `drowns`, `blurred` (ops/reach.py). `enough`: how far from zero a number has to be in
    it that only has to be far, for those who read it; 0: not known. bound: what is proved of a secret one
    (ops/bounds.py).
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    value: np.ndarray | None = None
    form: type = Replicated
    format: Format = RESTING
    resting: Format = RESTING
    weight: bool = False
    beside: np.ndarray | None = field(default=None, repr=False, compare=False)
    down: float = 0.0
    up: float = 0.0
    hollow: bool = False
    unit: bool = False
    negative: bool = False
    drowns: bool = False
    blurred: bool = False
    enough: float = 0.0
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
        return self.secret and (self.form is Sum3 or self.format != self.resting)

    @property
    def fraction(self) -> int:
        """Fraction bits of its words."""
        return self.format.fraction

    @property
    def finer(self) -> int:
        """Fraction bits that it keeps beyond those of other values of its type."""
        return self.resting.fraction - (RESTING.fraction if self.dtype.kind == "f" else 0)


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

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

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

    @cached_property
    def ring(self) -> int:
        """Bits of the words in which its values rest."""
        return next(o.resting.bits for o in self.inputs if o is not None and o.secret)

    @property
    def reals(self) -> Format:
        """The format in which real numbers rest."""
        return Format(self.ring, RESTING.fraction)

    @property
    def product(self) -> Format:
        """The format of a product of two real numbers."""
        return self.reals.finer(RESTING.fraction)

    def at(self, fraction: int) -> Format:
        """Words of this ring with so many fraction bits."""
        return Format(self.ring, fraction)


@dataclass(frozen=True, eq=False)
class Call(Use):
    """A use with its outputs: one call of a kernel."""

    outputs: tuple[Operand, ...]


_Kind = TypeVar("_Kind", bound="Operand | Use")


def altered(one: _Kind, **changes: Any) -> _Kind:
    """As `dataclasses.replace`, in a sixth of the time: a plan makes thousands of them."""
    made = object.__new__(type(one))
    made.__dict__.update(one.__dict__, **changes)
    return made


Value: TypeAlias = "Shares | np.ndarray | None"  # an operand of a kernel: secret, public or absent
Resolved: TypeAlias = "Replicated | np.ndarray"  # a given operand, of an input that takes no products
Kernel: TypeAlias = Callable[..., Protocol[Sequence[Form]]]


@dataclass(frozen=True)
class Result:
    """The form and the format in which a kernel leaves its outputs; None: the format in which they rest."""

    form: type = Replicated
    format: Format | None = None


def _nothing_more(call: Call) -> float:
    return 0.0


Fine: TypeAlias = "Callable[[Node], Mapping[int, int]]"


def _none_finer(node: Node) -> Mapping[int, int]:
    return {}


def both_fine(node: Node) -> Mapping[int, int]:
    """Either factor of a plain product may be a weight of any scale."""
    return {0: FINEST, 1: FINEST}


@dataclass(frozen=True)
class Operator:
    """A kernel and what is declared of it.

    kernel(party, call, *values): a protocol that returns one form an output; public inputs come as arrays,
    absent ones as None. cost(call): rounds and bits, without the truncation that the plan may add.
    result(call): form and fraction of the outputs. defers: inputs that may arrive untruncated.
    refuse(call): why this use is not supported, None if it is. secret: what may be secret, for the docs.
    integers: secret integers and booleans are taken too. layout: it only moves elements.
    fine(node): inputs that may have more fraction bits than others as weights do, and how many at most; of
    two factors both together.
    tolerance: the largest absolute error on operands of order one, what `error` says in one number.
    grows(call): what it may reach where that depends on the use, as on the length of rows.
    limits(call): the ranges in which that holds; outside them the result is wrong.
    beside(call): the public numbers beside its outputs, for a kernel that leaves those beside its inputs to
    the plan, or sees to them itself; None for one that is given inputs as they are. reaches: it reads
    operands as far out as their `reach` says, whatever its limits are otherwise.
    """

    name: str
    kernel: Kernel
    cost: Callable[[Call], Cost]
    result: Callable[[Call], Result]
    defers: Callable[[Use, int], bool]
    refuse: Callable[[Call], str | None]
    secret: str
    error: str
    layout: bool = False
    integers: bool = False
    tolerance: float = 1e-4
    limits: Limits = no_limit
    grows: Callable[[Call], float] = _nothing_more
    fine: Fine = _none_finer
    domain: str = ""
    beside: Callable[[Call], Sequence[np.ndarray | None]] | None = None
    reaches: bool = False

    def error_of(self, call: Call) -> float:
        """The largest absolute error of this use, on operands of order one."""
        return max(self.tolerance, self.grows(call))


_OPERATORS: dict[tuple[str, str], Operator] = {}


def _free(call: Call) -> Cost:
    return FREE


def _resolved(call: Call) -> Result:
    return Result()


def _nothing_refused(call: Call) -> str | None:
    return None


def operator(
    *names: str,
    cost: Callable[[Call], Cost] = _free,
    result: Callable[[Call], Result] = _resolved,
    defers: Sequence[int] | Callable[[Use, int], bool] = (),
    refuse: Callable[[Call], str | None] = _nothing_refused,
    secret: str = "all",
    error: str = "exact",
    tolerance: float = 1e-4,
    limits: Limits = no_limit,
    grows: Callable[[Call], float] = _nothing_more,
    layout: bool = False,
    integers: bool = False,
    fine: Fine = _none_finer,
    beside: Callable[[Call], Sequence[np.ndarray | None]] | None = None,
    reaches: bool = False,
) -> Callable[[Kernel], Kernel]:
    """Register a kernel under these operator names of the standard domain."""

    def register(kernel: Kernel) -> Kernel:
        accepts = defers if callable(defers) else (lambda call, index: index in defers)
        for name in names:
            if ("", name) in _OPERATORS:
                raise ValueError(f"two kernels for {name}")
            _OPERATORS["", name] = Operator(
                name,
                kernel,
                cost,
                result,
                accepts,
                refuse,
                secret,
                error,
                layout,
                layout or integers,
                tolerance,
                limits,
                grows,
                fine,
                beside=beside,
                reaches=reaches,
            )
        return kernel

    return register


def find(node: Node) -> Operator | None:
    """The operator of this node, None if there is no kernel for it."""
    return _OPERATORS.get((node.domain, node.op))


def operators() -> dict[str, Operator]:
    """All operators with a kernel, by name."""
    return {name: op for (_, name), op in sorted(_OPERATORS.items())}


def as_first(call: Call) -> Result:
    """Outputs in the form of the first secret input: for operators that only move elements."""
    first = call.secrets[0]
    return Result(first.form, first.format)
