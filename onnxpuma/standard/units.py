"""Sizes, times and shapes as people read them, in powers of a thousand and with three digits."""

from __future__ import annotations

from collections.abc import Sequence


def size(count: float) -> str:
    """Bytes."""
    return _scaled(count, "B")


def bits(count: float) -> str:
    """Bits."""
    return _scaled(count, "bit")


def duration(seconds: float) -> str:
    """Seconds, or milliseconds below one second."""
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def shape(dimensions: Sequence[object] | None) -> str:
    """A shape as 1x128x768."""
    if dimensions is None:
        return "?"
    return "x".join("?" if d is None else str(d) for d in dimensions) or "scalar"


def _scaled(count: float, unit: str) -> str:
    for prefix in ("", "k", "M"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if not prefix else f"{count:.3g} {prefix}{unit}"
        count /= 1000
    return f"{count:,.3g} G{unit}" if count < 999.5 else f"{count:,.0f} G{unit}"
