"""Noise that makes the largest element of a row a draw from its softmax (docs/protocols.md, "Sampling").

The largest of x_i + G_i, each G_i a Gumbel variable, is element i with probability softmax(x)_i. A Gumbel
variable is a sum of three independent ones [Steutel73], so each component of the noise is drawn by its two
holders from their common key: no message. A third is a number of steps from a table, plus four uniform
variables of a step each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.ring.arrays import constants
from onnxpuma.mpc.ring.words import WIDEST, Words, from_integers, word

FRACTION = 20  # fraction bits of the noise as it is drawn
SCALE_BITS = 20  # fraction bits of a scale
MOST_SCALE = 128.0
_STEP = 16  # the logarithm of a step in these units
_UNIFORMS = 4


@dataclass(frozen=True)
class Table:
    """The distribution of the whole steps of a third of a Gumbel variable."""

    lowest: int
    # Two to the power of 64 times the probability of each number of steps, from `lowest` on.
    weights: tuple[int, ...]

    @property
    def least(self) -> float:
        """A third is no smaller."""
        return (self.lowest - _UNIFORMS // 2) * 2.0 ** (_STEP - FRACTION)

    @property
    def most(self) -> float:
        """A third is no larger."""
        return (self.lowest + len(self.weights) + _UNIFORMS // 2) * 2.0 ** (_STEP - FRACTION)


@lru_cache(maxsize=1)
def table() -> Table:
    found = json.loads(resources.files(__package__).joinpath("noise.json").read_text())
    return Table(found["lowest"], tuple(found["weights"]))


LEAST, MOST = 3 * table().least, 3 * table().most
"""The noise of scale one lies between these."""


@lru_cache(maxsize=1)
def _ends() -> Words:
    """For each number of steps but the last the first word that stands for more."""
    return constants(list(accumulate(table().weights))[:-1], WIDEST)


def third(steps: Words, uniforms: Words) -> Words:
    """A third of a Gumbel variable, FRACTION fraction bits mod 2^64, from two uniform words mod 2^64 each."""
    whole = _ends().searchsorted(steps, side="right").astype(steps.dtype)
    found = (whole << word(_STEP, WIDEST)) + from_integers((table().lowest - 2) * (1 << _STEP) + 2, WIDEST)
    for place in range(_UNIFORMS):
        found += (uniforms >> word(_STEP * place, WIDEST)) & word((1 << _STEP) - 1, WIDEST)
    return found


def gumbel(party: Party, shape: tuple[int, ...], scale: npt.ArrayLike, format: Format) -> Replicated:
    """Independent Gumbel variables times `scale`, which is public, Replicated in `format`; local.

    scale: one for all, or numbers that broadcast to `shape`. Each party knows two of the three parts of every
    variable. Conditions: 0 <= scale <= MOST_SCALE; a fraction of at most 26 bits. Error: the three parts are
    rounded to units of the result; the density before that is right to 1e-12. Rounds and bits: none.
    """
    factor = from_integers(np.rint(np.multiply(scale, 2.0**SCALE_BITS)).astype(np.int64), WIDEST)
    shift = FRACTION + SCALE_BITS - format.fraction

    def component(key: int) -> Words:
        steps, uniforms = (party.draw(key, shape, WIDEST) for _ in range(2))
        exact = third(steps, uniforms) * factor + word(1 << (shift - 1), WIDEST)
        moved = exact.view("i8") >> shift
        return from_integers(moved, format.bits)

    return Replicated(party.index, component(party.index), component(party.index + 1), format)
