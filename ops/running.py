"""Which elements of a row can be its largest, by the public numbers beside them; what stands for the others.

An element that stands far below another for public reasons, masked say, is not compared: a copy of one that
can win, less one, takes its place, which lies in the range of the others and never wins.
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
SLACK = 2 * OUT  # two values that are compared differ by less


@dataclass(frozen=True)
class Running:
    """Of rows, the last axis: which elements are in the running, what stands beside them less `top`, the
    largest of the row, and those whose words count for nothing beside it."""

    kept: np.ndarray
    relative: np.ndarray
    top: np.ndarray
    drowned: np.ndarray


def running(beside: np.ndarray, slack: float = SLACK, drowning: float = INFINITE) -> Running:
    """What the numbers beside the elements of rows (..., n) leave to be decided: all that lie less than
    `slack` below the row's largest. drowning: a number so large that the secret beside it does not count."""
    top = beside.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        relative = np.where(beside == top, 0.0, beside - top)
    kept = relative > -slack
    return Running(kept, np.where(kept, relative, 0.0), top, kept & (np.abs(beside) >= drowning))


def rows_beside(call: Call, axes: Sequence[int], sign: float = 1.0) -> np.ndarray | None:
    """What stands beside the first input, its reduced axes last and flat: (rows, n)."""
    operand = call.given(0)
    if operand.beside is None:
        return None
    kept = [a for a in range(len(operand.shape)) if a not in axes]
    count = int(np.prod([operand.shape[a] for a in axes], dtype=np.int64))
    return sign * operand.beside.transpose(*kept, *axes).reshape(-1, count)


def contenders(rows: F, beside: np.ndarray | None, slack: float = SLACK) -> F:
    """(rows, n) of which the largest element is the one with what is beside it, less the row's `top`."""
    if beside is None:
        return rows
    found = running(beside, slack)
    first = found.kept.argmax(axis=-1)[:, None]
    source = np.where(found.kept, np.arange(beside.shape[1]), first)
    relative = np.where(found.kept, found.relative, np.take_along_axis(found.relative, first, 1) - 1.0)
    return rows.zeroed(found.drowned).take_along(source, 1).plus_numbers(relative)
