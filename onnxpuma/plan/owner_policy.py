"""The decisions of a model's owner before sharing: who may see which values, and what every run checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.plan.noise.wish import OutputNoise

Patterns: TypeAlias = Sequence[str]  # names, or glob patterns on them (graph/patterns.py)
Declared: TypeAlias = Mapping[str, Sequence[float]]  # input -> (low, high), the ends included


@dataclass(frozen=True)
class Policy:
    """The owner's wishes, as patterns on names. `prepare` applies them to a graph; policy.json records the
    outcome (policy_file.py)."""

    public: Patterns = ()  # constants that everybody may see
    secret: Patterns = ()  # constants that no server or client may see; wins over `public`
    # Inputs that the servers may see, and inputs that they may not, which wins. A pattern that is the name of
    # a weight which the file lists among its inputs turns it into an input.
    public_inputs: Patterns = ()
    secret_inputs: Patterns = ()
    hide: Patterns = ()  # outputs that no client may request
    # Outputs that stay at the servers and are never opened, and inputs that only such outputs may fill.
    keep_only: Patterns = ()
    # Whether every run tells its client if a value left its range (plan/bounds/checks.py).
    range_check: bool = True
    ranges: Declared = field(default_factory=dict)  # clients refuse numbers outside (plan/declared.py)
    # The bits in which weights are stored: "auto" (plan/examine/widths.py), 32, 40, 48 or 64; and weights, by
    # patterns, for which the owner chooses otherwise.
    ring: int | str = "auto"
    rings: Mapping[str, int | str] = field(default_factory=dict)
    resting: Format = RESTING  # of every secret real between two steps (plan/narrow.py)
    # Noise on outputs, and the answers that a client may get (docs/differential-privacy.md). The range check
    # is then off: its verdict would be an answer without noise.
    noise: OutputNoise | None = None
    # The public key to which servers seal what an audit needs (transport/sealing.py); "": no audits.
    owner_key: str = ""

    @property
    def patterns(self) -> tuple[str, ...]:
        """All of them."""
        of_constants, of_inputs = (*self.public, *self.secret), (*self.public_inputs, *self.secret_inputs)
        return (*of_constants, *of_inputs, *self.hide, *self.keep_only)


DEFAULT = Policy()
