"""The registry: which operators have a kernel on shares, and what each kernel declares.

An operator is one function with its declared cost beside it. The planner asks the registry which kernels
exist, and the documentation is generated from it. Facts about an operator that do not depend on its kernel
are in standard/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Protocol
from onnxpuma.ops.call import Call, Operand, Resolved, Result, Use, Value, altered, resting_of
from onnxpuma.ops.late import Late
from onnxpuma.ops.limits import Limits, no_limit
from onnxpuma.standard.fixed_point import FRACTION, MOST_SPARE

__all__ = [
    "FINEST",
    "Call",
    "Operand",
    "Operator",
    "Resolved",
    "Result",
    "Use",
    "Value",
    "altered",
    "as_first",
    "both_fine",
    "find",
    "operator",
    "operators",
    "resting_of",
    "widest",
]

FINEST = FRACTION + MOST_SPARE  # fraction bits of a weight


Kernel: TypeAlias = Callable[..., Protocol[Sequence[Form]]]


def _nothing_more(call: Call) -> float:
    return 0.0


Fine: TypeAlias = "Callable[[Node], Mapping[int, int]]"
Beside: TypeAlias = "Callable[[Call], Sequence[np.ndarray | None]]"


def _none_finer(node: Node) -> Mapping[int, int]:
    return {}


def both_fine(node: Node) -> Mapping[int, int]:
    """Either factor of a plain product may be a weight of any scale."""
    return {0: FINEST, 1: FINEST}


def _as_it_rests(call: Call, index: int) -> Format | None:
    return None


def _of_its_outputs(call: Call, index: int) -> Format | None:
    return widest([o.format for o in call.outputs]) if call.secret(index) else None


def widest(formats: Sequence[Format | None]) -> Format | None:
    """The least format that holds values of all of these, which have one scale; None if there is none."""
    if len(formats) == 1:
        return formats[0]
    known = [format for format in formats if format is not None]
    if len(known) != len(formats) or len({format.fraction for format in known}) != 1:
        return None
    return max(known)


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
    result: Callable[[Call], Result] = _resolved  # form and format of the outputs
    defers: Callable[[Use, int], bool]  # whether this input may arrive untruncated
    # The least format in which it reads this input, where its readers take the formats of `call.outputs`;
    # None: the format in which all values of a model rest.
    accepts: Callable[[Call, int], Format | None] = _as_it_rests
    # It leaves its first result in the format in which that output rests (`Operand.resting`), whatever it is.
    follows: bool = False
    refuse: Callable[[Call], str | None] = _nothing_refused  # why this use is not supported; None if it is
    # Which inputs may be secret, and the error, in the words of the documentation.
    secret: str = "all"
    error: str = "exact"
    moves: bool = False  # it only moves elements: the layout operators, and Slice, Expand, Tile ...
    integers: bool = False  # it takes secret integers and booleans too
    tolerance: float = 1e-4  # the largest absolute error on operands of order one
    # The ranges in which that error holds; beyond them the result is silently wrong.
    limits: Limits = no_limit
    grows: Callable[[Call], float] = _nothing_more  # the error where it depends on the use
    # Inputs that may be weights of more fraction bits than others, each with the most it may have; two
    # factors share that number.
    fine: Fine = _none_finer
    # Computes the public numbers beside its outputs, where the kernel leaves those beside its inputs to the
    # plan or handles them itself; None for a kernel that reads words with nothing beside them.
    beside: Beside | None = None
    # It reads operands as far out as their `reach`, whatever its limits are.
    reaches: bool = False
    # It computes in any ring in which values may rest (plan/narrow.py); otherwise only in the ring of
    # `RESTING`.
    narrow: bool = False
    # Public inputs whose numbers plans and programs leave open.
    late: Late | None = None

    def error_of(self, call: Call) -> float:
        """The largest absolute error of this use, on operands of order one."""
        return max(self.tolerance, self.grows(call))


_OPERATORS: dict[str, Operator] = {}
_OWN: dict[tuple[str, str], Operator] = {}  # of other domains than the standard's, which models do not name


def operator(
    *names: str,
    cost: Callable[[Call], Cost] = _free,
    result: Callable[[Call], Result] = _resolved,
    defers: Sequence[int] | Callable[[Use, int], bool] = (),
    accepts: Callable[[Call, int], Format | None] | None = None,
    follows: bool = False,
    refuse: Callable[[Call], str | None] = _nothing_refused,
    secret: str = Operator.secret,
    error: str = Operator.error,
    tolerance: float = Operator.tolerance,
    limits: Limits = no_limit,
    grows: Callable[[Call], float] = _nothing_more,
    moves: bool = False,
    integers: bool = False,
    fine: Fine = _none_finer,
    beside: Beside | None = None,
    reaches: bool = False,
    narrow: bool = False,
    late: Late | None = None,
    domain: str = "",
) -> Callable[[Kernel], Kernel]:
    """Register a kernel under these operator names, of the standard domain unless another is given."""

    def register(kernel: Kernel) -> Kernel:
        for name in names:
            if name in _OPERATORS:
                raise ValueError(f"two kernels for {name}")
            made = Operator(
                name=name,
                kernel=kernel,
                cost=cost,
                result=result,
                defers=defers if callable(defers) else (lambda call, index: index in defers),
                accepts=accepts or (_of_its_outputs if moves else _as_it_rests),
                follows=follows,
                refuse=refuse,
                secret=secret,
                error=error,
                moves=moves,
                integers=moves or integers,
                tolerance=tolerance,
                limits=limits,
                grows=grows,
                fine=fine,
                beside=beside,
                reaches=reaches,
                narrow=moves or narrow,
                late=late,
            )
            if domain:
                _OWN[domain, name] = made
            else:
                _OPERATORS[name] = made
        return kernel

    return register


def find(node: Node) -> Operator | None:
    """The operator of this node, None if there is no kernel for it."""
    return _OWN.get((node.domain, node.op)) if node.domain else _OPERATORS.get(node.op)


def operators() -> dict[str, Operator]:
    """All operators of the standard with a kernel, by name."""
    return dict(sorted(_OPERATORS.items()))


def as_first(call: Call) -> Result:
    """Outputs in the form of the first secret input: for operators that only move elements."""
    first = call.secrets[0]
    return Result(first.form, first.format)
