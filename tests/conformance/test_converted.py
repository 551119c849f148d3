"""The small models of old opsets that PyTorch exported for the standard, at twice the largest error."""

from __future__ import annotations

import re

import pytest
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

from onnxpuma.backend import SecureBackend

KINDS = {
    "OnnxBackendPyTorchConvertedModelTest": "pytorch-converted",
    "OnnxBackendPyTorchOperatorModelTest": "pytorch-operator",
}
TOLERANCE = {"rtol": 1e-3, "atol": 5e-3}
# Not numbers: roots of negative values; doubles of random bytes.
EXCLUDED = re.compile(r"test_operator_(pow|sqrt|add_(broadcast|size1_.*broadcast)|addconstant)_cpu")

NAMES = [case.name for kind in KINDS.values() for case in load_model_tests(kind=kind)]
RUNNER = BackendTest(SecureBackend, __name__, test_kwargs=dict.fromkeys(NAMES, TOLERANCE))
for name in KINDS:
    case = RUNNER.test_cases[name]
    for method in [m for m in vars(case) if m.startswith("test_")]:
        if EXCLUDED.fullmatch(method) or method.endswith("_cuda"):
            delattr(case, method)
    globals()[name] = case


def test_there_are_many() -> None:
    assert len(NAMES) > 80


@pytest.mark.parametrize("name", KINDS)
def test_they_are_collected(name: str) -> None:
    assert any(method.startswith("test_") for method in vars(globals()[name]))
