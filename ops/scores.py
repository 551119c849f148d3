"""The scores of a softmax that are computed: those left by public and by secret masks.

A public mask stands beside the scores (beside.py), and the scores that it excludes are not computed. A secret
mask is in the words: the kernel reads scores as far down as the mask may reach, or brings them up first.
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
SPREAD = 8192.0  # the distance of two scores of a row without a known bound; masks lie further
LEAST_SPREAD = 1024.0  # without a known bound, an untruncated product is read for at least this distance


@dataclass(frozen=True)
class Scores:
    """The scores that are computed, in rows (..., n)."""

    # Which scores these are; None: all.
    kept: np.ndarray | None
    # The public numbers added to them; None: none.
    added: np.ndarray | None
    # The scores that drown: beside numbers this large their own words do not count.
    drowned: np.ndarray | None
    # The number of computed scores of each row.
    lengths: np.ndarray
    # The largest distance of two scores of a row.
    spread: float

    @property
    def places(self) -> np.ndarray | None:
        """The flat places of the computed scores, created on demand: a broadcast mask is far smaller."""
        return None if self.kept is None else np.flatnonzero(self.kept)


def scores_of(beside: np.ndarray | None, shape: tuple[int, ...], spread: float) -> Scores:
    """The scores that the public numbers beside them leave to be computed.

    A score further below the largest of its row than scores are apart has no weight, and a row of minus
    infinity alone has none at all. Beside -2^29 single precision cannot tell scores apart.
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
    """The elements (..., n) that are computed, end to end."""
    if scores.drowned is not None:
        x = x.zeroed(scores.drowned)
    if scores.added is not None:
        x = x.plus_numbers(scores.added)
    places = scores.places
    return x.flat() if places is None else x.flat()[places]


def brought_up_cost(call: Call, operand: Operand) -> Cost:
    """The cost of bringing up elements that a secret mask has put further down than is read."""
    return clipped_cost(operand.size, *_held_to(operand), operand.resting.fraction, width(call))


def _held_to(operand: Operand) -> tuple[float | None, float | None]:
    low = -MOST_REACH / 2 if operand.down > MOST_REACH else None
    return low, MOST_REACH / 2 if operand.up > MOST_REACH else None


def read_as_far(operand: Operand) -> float:
    """How much further apart a secret mask puts two scores, within the range that is read."""
    return min(operand.down, MOST_REACH) + min(operand.up, MOST_REACH)


def spreads(scores: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """The largest distance of two kept scores (None: of any two), for each row of the last axis with any."""
    kept = np.ones(scores.shape, bool) if kept is None else kept
    top = np.max(scores, axis=-1, where=kept, initial=-np.inf)
    found = np.asarray(top - np.min(scores, axis=-1, where=kept, initial=np.inf))
    return found[np.isfinite(found)]


def within_reach(x: Operand, spread: float, apart: float) -> list[Need]:
    """The conditions on scores that include a secret mask: on a side where they are not brought up, none lies
    beyond the range that is read. spread: their distance without the mask; apart: as it is read."""
    half, high = MOST_REACH / 2, spread / 2
    if x.down > MOST_REACH and x.up > MOST_REACH:
        return []
    if x.down > MOST_REACH:
        return [Need(0, "below", apart - half - 1.01 * x.up)]
    if x.up > MOST_REACH:
        return [Need(0, "positive", half - apart)]
    return [Need(0, "below", high), Need(0, "positive", high + 1.01 * x.up - apart)]


def brought_up(party: Party, call: Call, x: F, operand: Operand) -> Protocol[F | Replicated]:
    """x, clamped to the range that is read if a secret mask may reach beyond it. Rounds: 6, or none."""
    if operand.reach <= MOST_REACH:
        return x
    return (yield from clipped(party, replicated(x), *_held_to(operand), width(call)))
