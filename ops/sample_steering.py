"""What steers the draw from each row, all of it public: temperature, top-k, top-p, min-p."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpuma.errors import ProtocolError


@dataclass(frozen=True)
class Setting:
    """One row's, as `Sampling` has it: 0, 1 and 0 rule out nothing. A temperature of zero: the largest."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def filters(self) -> tuple[bool, bool, bool]:
        """Which filters rule anything out: top-k, top-p, min-p. None does where the largest is wanted."""
        if not self.temperature:
            return False, False, False
        return self.top_k > 0, self.top_p < 1, self.min_p > 0

    @property
    def warmth(self) -> int:
        """Settings of the same one have temperatures that are at most eight times apart."""
        return (math.ceil(math.log2(self.temperature)) + 1) // 3 if self.temperature else 0


@dataclass(frozen=True)
class Steering:
    """One setting for all rows, or one for each; all rule out by the same filters."""

    settings: tuple[Setting, ...]

    def __post_init__(self) -> None:
        if len({setting.filters for setting in self.settings}) != 1:
            raise ProtocolError("rows are steered by different filters", "draw from them in several parts")

    @staticmethod
    def of(settings: Sequence[Setting]) -> Steering:
        """That of rows with these settings."""
        return Steering(tuple(settings) if len(set(settings)) > 1 else (settings[0],))

    @property
    def top_k(self) -> bool:
        """Whether it rules anything out; the same for the other filters."""
        return self.settings[0].filters[0]

    @property
    def top_p(self) -> bool:
        return self.settings[0].filters[1]

    @property
    def min_p(self) -> bool:
        return self.settings[0].filters[2]

    @property
    def any(self) -> bool:
        """Whether any filter rules anything out."""
        return any(self.settings[0].filters)

    @property
    def min_p_alone(self) -> bool:
        return self.min_p and not (self.top_k or self.top_p)

    @property
    def highest(self) -> float:
        """The highest temperature."""
        return max(setting.temperature for setting in self.settings)

    @property
    def lowest(self) -> float:
        """The lowest temperature above zero; zero if there is none."""
        return min((s.temperature for s in self.settings if s.temperature), default=0.0)

    @property
    def most(self) -> int:
        """The largest top-k."""
        return max(setting.top_k for setting in self.settings)

    def column(self, of: Callable[[Setting], float]) -> np.ndarray:
        """A number for each row, (settings, 1)."""
        return np.array([[of(setting)] for setting in self.settings])

    @property
    def temperatures(self) -> np.ndarray:
        return self.column(lambda setting: setting.temperature)

    @property
    def counts(self) -> np.ndarray:
        """top-k of each row, (settings, 1)."""
        return self.column(lambda setting: setting.top_k)

    @property
    def shares(self) -> np.ndarray:
        """top-p of each row, (settings, 1)."""
        return self.column(lambda setting: setting.top_p)

    @property
    def floors(self) -> np.ndarray:
        """ln(min-p) of each row, (settings, 1)."""
        return self.column(lambda setting: math.log(setting.min_p))
