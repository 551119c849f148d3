"""The unproved conditions on values, collected while a run is planned."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.registry import Operand


@dataclass
class Watched:
    """The sharpest need of each kind for each value.

    Beside each need stand the operand as it was known before any need of it was assumed, and the divisor of a
    quotient.
    """

    found: dict[tuple[object, ...], tuple[Need, Operand, Operand | None]] = field(default_factory=dict)
    # What was added, in order, since someone emptied it (known/recall.py).
    noted: list[tuple[Operand, Need, Operand | None]] = field(default_factory=list)

    def add(self, operand: Operand, need: Need, divisor: Operand | None = None) -> None:
        """Watch a need, unless a sharper one of its kind is watched already."""
        by = "" if divisor is None else divisor.name
        self.noted.append((operand, need, divisor))
        key = operand.name, need.kind, need.axes, need.count, need.around, by
        before = self.found.get(key)
        sharper = before is None or need.below < before[0].below
        if before is not None and need.kind in ("positive", "nonzero"):
            sharper = need.below > before[0].below
        if sharper:
            self.found[key] = need, operand if before is None else before[1], divisor
