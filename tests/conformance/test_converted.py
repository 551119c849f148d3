"""The small models of old opsets that PyTorch exported for the standard, at twice the largest error."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner
from onnx.numpy_helper import to_array

from onnxpuma.backend import SecureBackend

TOLERANCE = {"rtol": 1e-3, "atol": 5e-3}
# Not numbers: roots of negative values; doubles of random bytes.
EXCLUDED = re.compile(r"test_operator_(pow|sqrt|add_(broadcast|size1_.*broadcast)|addconstant)")

CASES = [
    case
    for kind in ("pytorch-converted", "pytorch-operator")
    for case in sorted(load_model_tests(kind=kind), key=lambda case: case.name)
    if not EXCLUDED.fullmatch(case.name)
]


def tensors(folder: Path, kind: str) -> list[onnx.TensorProto]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [onnx.load_tensor(folder / f"{kind}_{i}.pb") for i in range(count)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_are_those_of_the_standard(case: TestCase) -> None:
    folder = Path(case.model_dir or "")
    prepared = SecureBackend.prepare(onnx.load(folder / "model.onnx"), "CPU", **TOLERANCE)
    sets = sorted(folder.glob("test_data_set_*"))
    assert sets
    for data in sets:
        inputs, expected = (list(map(to_array, tensors(data, kind))) for kind in ("input", "output"))
        assert expected
        Runner.assert_similar_outputs(expected, prepared.run(inputs), **TOLERANCE)


def test_there_are_many() -> None:
    assert len(CASES) > 80
