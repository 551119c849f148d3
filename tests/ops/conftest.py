"""The checks of every operator test: the type and shape, the declared cost, the error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onnxpuma.check.single import Comparison
from onnxpuma.plan.lanes.lanes import cost_in_lanes

Check = Callable[[Comparison, float], None]


@pytest.fixture
def check() -> Check:
    """check(comparison, tolerance): shape, type, rounds, bits as declared; the error within tolerance."""

    def hold(done: Comparison, tolerance: float) -> None:
        for got, want in zip(done.all_got, done.all_want, strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert done.outcome.cost == cost_in_lanes(done.outcome.plan)
        assert done.error <= tolerance

    return hold
