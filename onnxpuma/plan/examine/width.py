"""The width of one weight: the least ring in which its products fit, or the one that its owner wishes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnxpuma.errors import ConfigError
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols.dpf import BITS
from onnxpuma.ops.limits import ROOM
from onnxpuma.ops.narrow_factor import CALIBRATED, LEAST_READ, LEAST_STORED, WIDTHS
from onnxpuma.ops.products import gemm_of
from onnxpuma.ops.registry import Call, Operand, altered
from onnxpuma.ops.rows import exponent
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.bounds.ranges import bounded
from onnxpuma.plan.examine.thrift import Width
from onnxpuma.plan.known.state import State
from onnxpuma.plan.narrow_weights import is_look_up, truncated, untruncated
from onnxpuma.plan.plan import Step
from onnxpuma.plan.refits import refitted
from onnxpuma.plan.weights.factors import PRODUCTS, Reading

AUTO = "auto"
_NARROW = WIDTHS[:-1]


@dataclass
class Choice:
    """The width of one weight, from the products that read it."""

    state: State
    readers: Mapping[str, list[int]]
    blueprint: Blueprint
    name: str
    wish: int | str
    # The fewest fraction bits at which `auto` reads the other factor.
    least: int
    # Fraction bits that `auto` may take from the weight where that makes its ring smaller.
    spare: int = 0

    def width(self, uses: Reading, steps: list[tuple[int, str]], named: bool) -> Width | None:
        """None: all bits. named: the owner names this weight. Raises ConfigError as `with_widths`."""
        refused = uses.refused or self._unread(uses, steps)
        if refused:
            if named and self.wish != AUTO:
                raise ConfigError(
                    f"'{self.name}' cannot be stored in {self.wish} bits: {refused}",
                    f"only factors of products and tables can: --ring '{self.name}={RESTING.bits}'",
                )
            return None
        fraction = self.blueprint.format(self.name).fraction
        products = [entry for entry in steps if not is_look_up(self.state.steps[entry[0]])]
        if not products:
            return Width(BITS if self.wish == AUTO else int(self.wish), None, fraction)
        if self.wish != AUTO:
            return self._forced(int(self.wish), products, fraction, bool(uses.look_ups), named)
        spare = 0 if uses.look_ups else self.spare  # rows that are looked up keep the scale of values
        widths = [self._least(*entry, fraction, spare) for entry in products]
        if any(width is None for width in widths):
            return None
        known = [width for width in widths if width is not None]
        reads, stored = min(w.reads or 0 for w in known), min(w.fraction for w in known)
        return Width(max(w.bits for w in known), reads, stored)

    def _unread(self, uses: Reading, steps: list[tuple[int, str]]) -> str:
        """Why not all of its readers are products with activations, or look-ups at secret ids."""
        planned = {self.state.steps[number].call.node.name for number, _ in steps}
        if not planned or not (uses.products | uses.look_ups) <= planned:
            return "not all of its readers run in the example"
        for number, name in steps:
            step = self.state.steps[number]
            if is_look_up(step):
                continue
            if step.operator.name not in PRODUCTS:
                return f"{step.operator.name} '{step.call.node.name}' reads it"
            other = next((o for o in step.call.inputs[:2] if o is not None and o.name != name), None)
            if other is None or not other.secret or other.weight or gemm_of(step.call).left_turned:
                return f"the other factor of '{step.call.node.name}' is no secret activation"
        return ""

    def _least(self, number: int, name: str, fraction: int, spare: int) -> Width | None:
        """The least width that `auto` takes for one product, with as many bits of the weight as fit."""
        options = []
        for bits in _NARROW:
            for apart in (False, True):
                for stored in range(fraction - spare, fraction + 1):
                    reads = self._fraction(number, name, bits, stored, apart)
                    if reads >= self.least + self._other(number, name).finer and self._holds(
                        number, name, bits, stored, reads, apart
                    ):
                        options.append((apart, bits, -stored, reads))
        if not options:
            return None
        _, bits, stored, reads = min(options)
        return Width(bits, reads, -stored)

    def _forced(
        self, bits: int, products: list[tuple[int, str]], fraction: int, looked_up: bool, named: bool
    ) -> Width | None:
        """This width, with as many fraction bits as its products leave; where they leave too few, a wider one
        for a weight that is not named."""
        reads = RESTING.bits
        stored = fraction
        for number, name in products:
            room = self._room(number, name, bits, True)
            read = min(self._other(number, name).fraction, max(LEAST_READ, room - fraction))
            stored, reads = min(stored, room - read), min(reads, read)
        if stored < (fraction if looked_up else LEAST_STORED):
            if not named:
                wider = (width for width in _NARROW if width > bits)
                more = next(wider, None)
                return None if more is None else self._forced(more, products, fraction, looked_up, named)
            bound = max(self._bound(number, name, True) for number, name in products)
            most = f"may reach {bound:.4g}" if math.isfinite(bound) else "have no known bound"
            raise ConfigError(
                f"'{self.name}' cannot be stored in {bits} bits: its products {most}",
                f"choose more for it, --ring '{self.name}={RESTING.bits}', or --ring {AUTO}",
            )
        return Width(bits, reads, stored)

    # -- one product ---------------------------------------------------------------------------------

    def _other(self, number: int, name: str) -> Operand:
        """The activation."""
        return next(o for o in self.state.steps[number].call.inputs[:2] if o is not None and o.name != name)

    def _fraction(self, number: int, name: str, bits: int, fraction: int, apart: bool) -> int:
        """Fraction bits that a ring leaves for the activation."""
        room = self._room(number, name, bits, apart)
        return min(self._other(number, name).fraction, room - fraction)

    def _room(self, number: int, name: str, bits: int, apart: bool) -> int:
        """Fraction bits of both factors together."""
        bound = self._bound(number, name, apart)
        return bits - 2 - exponent(bound * (1 + ROOM) + ROOM) if math.isfinite(bound) else -1

    def _bound(self, number: int, name: str, apart: bool) -> float:
        """The largest |result|, and, unless it is truncated by itself (`apart`), of all that joins it."""
        step = self.state.steps[number]
        call = self._read(step.call, name, LEAST_READ)
        own = bounded(self.state.blueprint, call, step.operator).outputs[0].bound.size
        largest = min(own, self.blueprint.bounds(step.call.node.name).get(CALIBRATED, math.inf))
        if apart:
            return largest
        more = max(0.0, own - step.call.outputs[0].bound.size) if math.isfinite(own) else 0.0
        todo = [] if step.resolves[0] else list(step.outputs)
        while todo:
            for reader in self.readers.get(todo.pop(), ()):
                after = self.state.steps[reader]
                for operand, resolves in zip(after.call.outputs, after.resolves, strict=True):
                    if operand.deferred and operand.dtype.kind == "f" and after.operator.name not in PRODUCTS:
                        largest = max(largest, operand.bound.size + more)
                        todo += [] if resolves else [operand.name]
        return largest

    def _read(self, call: Call, name: str, reads: int) -> Call:
        inputs = (altered(o, reads=reads) if o is not None and o.name == name else o for o in call.inputs)
        return altered(call, inputs=tuple(inputs))

    def _holds(self, number: int, name: str, bits: int, fraction: int, reads: int, apart: bool) -> bool:
        step = self.state.steps[number]
        weight = next(o for o in step.call.inputs[:2] if o is not None and o.name == name)
        format = weight.format.modulo(bits).at(fraction)
        stored = altered(weight, format=format, resting=format, reads=reads)
        call = bounded(self.state.blueprint, self._read(step.call, name, reads), step.operator)
        new = Step(step.index, step.operator, call, step.outputs, step.resolves, step.constant)
        new = refitted(new, {name: stored})
        way = truncated if apart else untruncated
        if CALIBRATED in self.blueprint.ranges.get(step.call.node.name, {}):
            return apart
        return way(self.state.steps, self.readers, number, new) is not None
