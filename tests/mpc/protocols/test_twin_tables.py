"""The twins' factors are the same on every machine: integers, pinned by their fingerprint."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from onnxpuma.mpc.protocols import circle, fourier, powers
from onnxpuma.mpc.protocols.fourier import all_series, fingerprint


def test_the_fingerprint() -> None:
    """If it changes, servers of the two versions must not compute together: say so in CHANGELOG."""
    assert fingerprint() == "d41c1d2c720fd481"


def test_the_fingerprint_is_made_once_and_again_the_same() -> None:
    first = fingerprint()
    for cached in (fingerprint, all_series, circle.arc, powers.tables):
        cached.cache_clear()
    assert fingerprint() == first


def test_another_coefficient_gives_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    changed = dict(all_series())
    gelu = changed["gelu"]
    changed["gelu"] = fourier.Series(
        "gelu", gelu.period, (gelu.coefficients[0] + 1e-9, *gelu.coefficients[1:])
    )
    monkeypatch.setattr(fourier, "all_series", lambda: changed)
    fingerprint.cache_clear()
    try:
        assert fingerprint() != before
    finally:
        fingerprint.cache_clear()


def test_tables_do_not_come_from_floating_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """If cosines and exponentials err in their last digits, the tables stay the same."""

    def digest() -> str:
        tables = [*circle.whole(12, 24), *circle.arc(26, 10, 28), *powers.tables(16, 12, -8)[:2]]
        tables += [t for pair in fourier._twin_tables(all_series()["gelu"], 1.0, 12, 13, 48) for t in pair]
        return hashlib.sha256(b"".join(t.tobytes() for t in tables)).hexdigest()

    before = digest()
    for cached in (circle.arc, circle._stored, powers.tables, fourier._twin_tables):
        cached.cache_clear()
    for name in ("cos", "sin", "exp"):
        original = getattr(np, name)
        monkeypatch.setattr(np, name, lambda x, f=original: f(x) * (1 + 1e-9))
    assert digest() == before
