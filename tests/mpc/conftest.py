"""Fixtures of the protocol tests: each ring kernel in turn, and random words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.words import Words


@pytest.fixture(params=ring.native_levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kernel level that runs on this machine, active during the test."""
    before = ring.native_level()
    ring.set_native_level(request.param)
    yield request.param
    ring.set_native_level(before)


@pytest.fixture
def drawn() -> Callable[..., Words]:
    """drawn(shape, dtype, seed): words whose bits are all random."""

    def draw(shape: tuple[int, ...] | int, dtype: object = np.uint64, seed: int = 0) -> Words:
        kind = np.dtype(dtype)  # type: ignore[call-overload]
        source = np.random.default_rng(seed + int(np.prod(shape)))
        words: Words = source.integers(0, 1 << 8 * kind.itemsize, shape, kind)
        return words

    return draw
