"""The owner's wish for noise on outputs, as given before the model is read; checked as far as it can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxpuma.errors import ConfigError
from onnxpuma.mpc.noise import GAUSSIAN, KINDS

USUAL_ERROR = 2.0**-7
USUAL_DELTA = 1e-6
_LARGEST = 2.0**20  # of a score, and of a sensitivity


@dataclass(frozen=True, kw_only=True)
class OutputNoise:
    """Noise on the outputs that the patterns name, in every answer (docs/differential-privacy.md).

    Raises ConfigError for numbers that make no sense together.
    """

    outputs: Sequence[str]
    kind: str = GAUSSIAN
    # How far one answer moves between two models that must not be told apart: the Euclidean length of the
    # difference for a Gaussian, the sum of magnitudes for Laplace. None: as far as `clip` allows.
    sensitivity: float | None = None
    # The privacy loss of one answer: for a Gaussian (epsilon, delta) or rho of zero-concentrated differential
    # privacy, for Laplace epsilon alone.
    epsilon: float | None = None
    delta: float | None = None
    rho: float | None = None
    answers: int  # that one client may get; a batch of n rows counts n
    together: bool = False  # all clients have one budget
    clip: tuple[float, float] | None = None  # scores are moved into this range before they get noise
    error: float = USUAL_ERROR  # the largest error of a score that the servers compute
    label: bool = False  # clients get the place of the largest noisy score, and no score

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"there is no noise '{self.kind}'", f"choose {' or '.join(KINDS)}")
        _positive("sensitivity", self.sensitivity)
        _positive("epsilon", self.epsilon)
        _positive("rho", self.rho)
        if type(self.answers) is not int or not 1 <= self.answers < 1 << 53:
            raise ConfigError(
                f"a budget of {self.answers} answers makes no sense", "give a whole number: --answers 1000"
            )
        if not 0 <= self.error < 1:
            raise ConfigError(f"an error of {self.error} a score makes no sense", "the usual one is 2^-7")
        if (self.epsilon is None) == (self.rho is None):
            raise ConfigError(
                "noise needs the privacy loss of one answer, stated once", "give --epsilon, or --rho"
            )
        self._check_delta()
        self._check_range()

    @property
    def gaussian(self) -> bool:
        return self.kind == GAUSSIAN

    def _check_delta(self) -> None:
        if not self.gaussian and (self.rho is not None or self.delta is not None):
            raise ConfigError(
                "Laplace noise has no rho and no delta", "state its loss by --epsilon alone, or take gaussian"
            )
        if self.gaussian and self.epsilon is not None and self.delta is None:
            raise ConfigError(
                "epsilon of Gaussian noise means nothing without delta", "add --delta 1e-6, or give --rho"
            )
        if self.delta is not None and not 0 < self.delta < 0.5:
            raise ConfigError(
                f"delta {self.delta} is no small probability", "take one far below 1 / people: 1e-6"
            )

    def _check_range(self) -> None:
        if self.sensitivity is None and self.clip is None:
            raise ConfigError(
                "noise needs a sensitivity: how far one answer may move between two models",
                "give --sensitivity, or --clip LOW:HIGH, from which it follows",
            )
        if self.clip is None:
            return
        low, high = self.clip
        if not -_LARGEST < low < high < _LARGEST:  # false for NaN as well
            raise ConfigError(f"scores cannot be clipped to {low}:{high}", "write --clip -8:8")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < (_LARGEST if name == "sensitivity" else math.inf):
        raise ConfigError(f"{name} {value} makes no sense", "give a number above zero")
