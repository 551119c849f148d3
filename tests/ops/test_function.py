"""Operators without a kernel run as the function that the standard defines them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.single import Comparison, compare

Check = Callable[[Comparison, float], None]
X = np.random.default_rng(0).normal(0, 3, (4, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "attributes", "tolerance"),
    [
        ("Softsign", {}, 2e-5),
        ("ThresholdedRelu", {"alpha": 0.7}, 1e-5),
        ("Shrink", {"lambd": 0.5, "bias": 0.25}, 1e-5),
        ("LogSoftmax", {"axis": -1}, 5e-5),
        ("LogSoftmax", {"axis": 0}, 5e-5),
        ("ReduceLogSumExp", {}, 5e-5),
        ("MeanVarianceNormalization", {"axes": [0]}, 1e-3),
    ],
)
def test_functions(check: Check, op: str, attributes: dict[str, Any], tolerance: float) -> None:
    check(compare(op, {"x": X}, **attributes), tolerance)


def test_an_operator_that_is_no_function_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match="no secure kernel for Asin"):
        compare("Asin", {"x": X})
