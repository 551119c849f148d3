"""One use of an operator: the node, and all that the plan knows of its operands.

Costs, limits, refusals and kernels read formats from here: no operator assumes how many bits its values have.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Shares, Sum3
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.content import Content, content_of, content_of_node, key_of_array


def resting_of(dtype: np.dtype[Any], reals: Format) -> Format:
    """The format in which values of this type rest. Integers and booleans are whole words."""
    return reals if dtype.kind == "f" else reals.at(0)


@dataclass(frozen=True)
class Operand:
    """One input or output of a step, as the plan knows it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    # The array of a public operand; None for a secret one.
    value: np.ndarray | None = None
    # Replicated, Sum3 (a product still to be truncated) or SecretIds (ids that only the client knows).
    form: type = Replicated
    # The format of its words.
    format: Format = RESTING
    # The format to which it is truncated. A weight of small numbers, and a value computed from one, keeps
    # more fraction bits than other values (plan/weights/scaling.py).
    resting: Format = RESTING
    # Computed from the owner's weights and public constants alone.
    weight: bool = False
    # A weight stored in few bits: its products read their other factor at no more fraction bits than this
    # (ops/narrow_factor.py). 0 for all other values.
    reads: int = 0
    # The factor of a product that is computed twice as large, in one ring product instead of two
    # (plan/doubled.py).
    doubled: bool = False
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
    # The distance from zero at which its readers need a masked element; 0 where it is not known.
    enough: float = 0.0
    # The largest constant in it that keeps few digits in fixed point; 0 for none (ops/faint.py).
    faint: float = 0.0
    # All that a plan knows of the numbers of a late public operand (ops/late.py); None for any other.
    seen: Hashable = None
    # The proved bound of a secret operand (ops/bounds.py).
    bound: Bound = field(default=UNKNOWN, repr=False, compare=False)

    @property
    def secret(self) -> bool:
        return self.value is None

    @property
    def reach(self) -> float:
        """How far out a secret mask may put its elements, in either direction."""
        return max(self.down, self.up)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

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
        """Extra fraction bits, beyond those that values of its type usually keep."""
        return self.resting.fraction - (RESTING.fraction if self.dtype.kind == "f" else 0)

    @cached_property
    def content(self) -> Content:
        """All of it but its name; whether it has one counts, as nothing reads an output without a name."""
        late = self.seen is not None
        arrays = None if late else key_of_array(self.value), key_of_array(self.beside)
        return content_of(("operand", bool(self.name), *arrays, self.bound.key, *_plain_facts(self)))


_plain_facts = attrgetter(
    *(each.name for each in fields(Operand) if each.name not in ("name", "value", "beside", "bound"))
)


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
    # The network for which it is planned: a kernel that knows several ways takes the fastest there.
    network: Network = field(default=USUAL, kw_only=True)

    @property
    def operands(self) -> tuple[Operand | None, ...]:
        """The inputs, and after them the outputs of a call."""
        return self.inputs

    @property
    def names(self) -> list[str]:
        """Those of all operands that are present."""
        return [o.name for o in self.operands if o is not None]

    @cached_property
    def content(self) -> Content:
        """All of it but the names of node and operands; which operands are one and the same counts."""
        operands = self.operands
        names = self.names
        again = tuple(map(names.index, names)) if len(set(names)) < len(names) else ()
        contents = tuple([None if o is None else o.content for o in operands])
        bounds = tuple(sorted(self.bounds.items()))
        node = content_of_node(self.node)
        return content_of((node, self.opset, bounds, self.network, again, len(self.inputs), contents))

    def bound(self, key: str, default: float) -> float:
        """The bound of a quantity of this use (`Limit.key`): as calibrated, else `default`."""
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

    @cached_property
    def ring(self) -> int:
        """Bits of the words in which its values rest: most, where some rest in fewer (plan/formats.py)."""
        return max(o.resting.bits for o in self.inputs if o is not None and o.secret)

    @property
    def reals(self) -> Format:
        """The format in which real numbers rest."""
        return Format(self.ring, RESTING.fraction)

    @property
    def product(self) -> Format:
        """The format of a product of two real numbers."""
        return self.reals.finer(RESTING.fraction)

    def at(self, fraction: int) -> Format:
        """Words of this ring with this many fraction bits."""
        return Format(self.ring, fraction)

    def product_of(self, *places: int) -> Format:
        """The format of a product of these inputs: in the smallest of their rings. A public one counts as a
        real number at rest."""
        factors = [self.given(place) for place in places]
        bits = min((o.format.bits for o in factors if o.secret), default=self.ring)
        return Format(bits, sum(o.fraction if o.secret else self.reals.fraction for o in factors))


@dataclass(frozen=True, eq=False)
class Call(Use):
    """A use with its outputs: one call of a kernel."""

    outputs: tuple[Operand, ...]

    @property
    def operands(self) -> tuple[Operand | None, ...]:
        return self.inputs + self.outputs

    def again(self, node: Node, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        """The same call for another node, with operands of the same content under other names."""
        return altered(self, node=node, inputs=tuple(inputs), outputs=tuple(outputs), content=self.content)


# What one finds of itself, and does not hold once it is altered.
_OWN = "content"
_RENAMED = {"name"}
_Kind = TypeVar("_Kind", bound="Operand | Use")


def altered(one: _Kind, **changes: Any) -> _Kind:
    """As `dataclasses.replace`, in a sixth of the time: a plan makes thousands of calls."""
    made = object.__new__(type(one))
    made.__dict__.update(one.__dict__, **changes)
    renamed = changes.keys() == _RENAMED and made.__dict__["name"]
    if _OWN in made.__dict__ and _OWN not in changes and not renamed:
        del made.__dict__[_OWN]
    return made


Value: TypeAlias = "Shares | np.ndarray | None"  # an operand of a kernel: secret, public or absent
Resolved: TypeAlias = "Replicated | np.ndarray"  # a given operand, of an input that takes no products


@dataclass(frozen=True)
class Result:
    """The form and the format in which a kernel leaves its outputs; None: the format in which they rest."""

    form: type = Replicated
    format: Format | None = None
