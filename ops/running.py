"""The elements of a row that can be its largest, by the public numbers beside them.

An element that lies far below another for public reasons, such as a mask, is not compared. A copy of one that
can win, less one, takes its place: it lies in the range of the others and never wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onnxpuma.mpc.forms import Form
from onnxpuma.ops.registry import Call
from onnxpuma.standard.mask_values import INFINITE, OUT

F = TypeVar("F", bound=Form)
SLACK = 2 * OUT  # two compared values differ by less


@dataclass(frozen=True)
class Running:
    """The elements in the running, in rows of the last axis."""

    # Which elements can be the largest of their row.
    kept: np.ndarray
    # The numbers beside these elements, less `top`.
    relative: np.ndarray
    # The largest number beside the elements of each row.
    top: np.ndarray
    # The elements that drown: beside numbers this large their own words do not count.
    drowned: np.ndarray


def running(beside: np.ndarray, slack: float = SLACK, drowning: float = INFINITE) -> Running:
    """The elements of rows (..., n) whose numbers lie less than `slack` below the largest of the row.

    drowning: beside a number this large, the secret itself does not count.
    """
    top = beside.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        relative = np.where(beside == top, 0.0, beside - top)
    kept = relative > -slack
    return Running(kept, np.where(kept, relative, 0.0), top, kept & (np.abs(beside) >= drowning))


def rows_beside(call: Call, axes: Sequence[int], sign: float = 1.0) -> np.ndarray | None:
    """The numbers beside the first input, with its reduced axes last and flat: (rows, n)."""
    operand = call.given(0)
    if operand.beside is None:
        return None
    kept = [a for a in range(len(operand.shape)) if a not in axes]
    count = int(np.prod([operand.shape[a] for a in axes], dtype=np.int64))
    return sign * operand.beside.transpose(*kept, *axes).reshape(-1, count)


def contenders(rows: F, beside: np.ndarray | None, slack: float = SLACK) -> F:
    """(rows, n), whose largest is that of the rows plus the numbers beside them, less the row's `top`."""
    if beside is None:
        return rows
    found = running(beside, slack)
    first = found.kept.argmax(axis=-1)[:, None]
    source = np.where(found.kept, np.arange(beside.shape[1]), first)
    relative = np.where(found.kept, found.relative, np.take_along_axis(found.relative, first, 1) - 1.0)
    return rows.zeroed(found.drowned).take_along(source, 1).plus_numbers(relative)
