"""The buffers of a message: the packed words of a round, from one party to another."""

from __future__ import annotations

import math
from itertools import accumulate, islice
from typing import Any

SHORT = 1 << 12  # bytes of the words of a round that travel in one buffer


def bytes_of(shape: tuple[int, ...], bits: int) -> int:
    """Of so many packed words."""
    return -(-math.prod(shape) * bits // 8)


def together(buffers: list[Any]) -> list[Any]:
    """The buffers of a message: short ones as one, since their receiver knows where each ends."""
    if len(buffers) > 1 and sum([buffer.nbytes for buffer in buffers]) < SHORT:
        return [b"".join(buffers)]
    return buffers


def apart(buffers: list[memoryview], due: list[tuple[int, ...]]) -> list[list[memoryview]] | None:
    """What `together` joined, in parts of these sizes, by receiver; None where the message is another one."""
    if len(due) == 1 and len(due[0]) == 1:
        return [buffers] if len(buffers) == 1 and len(buffers[0]) == due[0][0] else None
    parts = _parts(buffers, [size for sizes in due for size in sizes])
    if parts is None:
        return None
    rest = iter(parts)
    return [list(islice(rest, len(sizes))) for sizes in due]


def _parts(buffers: list[memoryview], sizes: list[int]) -> list[memoryview] | None:
    total = sum(sizes)
    if len(sizes) > 1 and total < SHORT:
        if len(buffers) != 1 or len(buffers[0]) != total:
            return None
        ends = list(accumulate(sizes))
        return [buffers[0][end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return buffers if [len(buffer) for buffer in buffers] == sizes else None
