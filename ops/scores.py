"""Which scores of a softmax are computed on: what masks leave of them, whether public or secret.

A public mask stands beside the scores (beside.py): what it excludes is not computed at all. A secret one is
in the words: scores are read as far down as it may reach, or brought up first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.comparison import width
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.running import running
from onnxpuma.ops.select import clipped, clipped_cost
from onnxpuma.ops.shares import replicated
from onnxpuma.standard.mask_values import DROWNING, MOST_REACH

F = TypeVar("F", bound=Form)
LOWEST = 15  # scores further below the maximum count as zero: e^-15 is below 2^-21
SPREAD = 8192.0  # how far two scores of a row may be apart, where no other bound is known; masks lie further
LEAST_SPREAD = 1024.0  # that they are read for before their product is truncated, where no bound is known


@dataclass(frozen=True)
class Scores:
    """Which elements of rows (..., n) are computed on (None: all), what is added to them, and those whose
    words do not count; how many each row has; how far apart two of a row may be."""

    kept: np.ndarray | None
    added: np.ndarray | None
    drowned: np.ndarray | None
    lengths: np.ndarray
    spread: float

    @property
    def places(self) -> np.ndarray | None:
        """Where they stand, flat: made when asked for, as it is far larger than a mask that is stretched."""
        return None if self.kept is None else np.flatnonzero(self.kept)


def scores_of(beside: np.ndarray | None, shape: tuple[int, ...], spread: float) -> Scores:
    """What is left of rows of scores by the public numbers beside them.

    An element that lies further below its row's largest than scores are apart has no weight, and a row of
    nothing but minus infinity has none at all. Beside -2^29 single precision does not tell scores apart.
    """
    length = shape[-1] if shape else 1
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    if beside is None:
        return Scores(None, None, None, np.full(rows, length), spread)
    beside = np.broadcast_to(beside, (*beside.shape[:-1], length))
    found = running(beside, spread + LOWEST + 1, DROWNING)
    kept = found.kept & (found.top > -np.inf)
    farthest = float(-found.relative.min(initial=0.0))
    counts = np.count_nonzero(kept, axis=-1)
    return Scores(
        None if kept.all() else np.broadcast_to(kept, shape),
        np.broadcast_to(found.relative, shape) if found.relative.any() else None,
        np.broadcast_to(found.drowned, shape) if found.drowned.any() else None,
        np.broadcast_to(counts, shape[:-1]).reshape(-1),
        spread + (farthest if farthest > spread / 4 else 0.0),
    )


def entered(x: F, scores: Scores) -> F:
    """The elements (..., n) that are computed on, end to end."""
    if scores.drowned is not None:
        x = x.zeroed(scores.drowned)
    if scores.added is not None:
        x = x.plus_numbers(scores.added)
    places = scores.places
    return x.flat() if places is None else x.flat()[places]


def brought_up_cost(call: Call, operand: Operand) -> Cost:
    """Of bringing up what a secret mask has put further down than is read."""
    return clipped_cost(operand.size, *_held_to(operand), operand.resting.fraction, width(call))


def _held_to(operand: Operand) -> tuple[float | None, float | None]:
    low = -MOST_REACH / 2 if operand.down > MOST_REACH else None
    return low, MOST_REACH / 2 if operand.up > MOST_REACH else None


def read_as_far(operand: Operand) -> float:
    """How much further apart a secret mask puts scores, as they are read."""
    return min(operand.down, MOST_REACH) + min(operand.up, MOST_REACH)


def spreads(scores: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """How far apart the scores of each row of the last axis are that are kept; None: all. Of rows that have
    any."""
    kept = np.ones(scores.shape, bool) if kept is None else kept
    top = np.max(scores, axis=-1, where=kept, initial=-np.inf)
    found = np.asarray(top - np.min(scores, axis=-1, where=kept, initial=np.inf))
    return found[np.isfinite(found)]


def within_reach(x: Operand, spread: float, apart: float) -> list[Need]:
    """What is asked of scores that a secret mask is in: none further out than is read, on a side on which
    they are not brought up. spread: how far they lie apart without it; apart: all that is read."""
    half, high = MOST_REACH / 2, spread / 2
    if x.down > MOST_REACH and x.up > MOST_REACH:
        return []
    if x.down > MOST_REACH:
        return [Need(0, "below", apart - half - 1.01 * x.up)]
    if x.up > MOST_REACH:
        return [Need(0, "positive", half - apart)]
    return [Need(0, "below", high), Need(0, "positive", high + 1.01 * x.up - apart)]


def brought_up(party: Party, call: Call, x: F, operand: Operand) -> Protocol[F | Replicated]:
    """x, which a secret mask may put anywhere, no further out than is read. Rounds: 6 where it may."""
    if operand.reach <= MOST_REACH:
        return x
    return (yield from clipped(party, replicated(x), *_held_to(operand), width(call)))
