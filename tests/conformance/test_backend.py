"""The official node tests of every operator with a kernel, float inputs secret, at its declared error.

The standard's own runner compares shapes, types and values (onnx.backend.test); it generates the cases in
this process, which takes some seconds.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.backend.test import BackendTest
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from onnxpuma.backend import SecureBackend, prepare, run_model, supports_device
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.ops.registry import operators

LINES = (Path(__file__).parent / "excluded.txt").read_text().splitlines()
EXCLUDED = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in LINES if not line.startswith("#"))
KERNELS = operators()


def _operators(case: TestCase) -> set[str]:
    return {node.op_type for node in case.model.graph.node} & set(KERNELS)


def _excluded(name: str) -> bool:
    return any(re.match(pattern, name) for pattern in EXCLUDED)


CASES = {
    case.name: case
    for case in load_model_tests(kind="node")
    if _operators(case) and not case.name.endswith("_expanded")
}
CHOSEN = {name: case for name, case in CASES.items() if not _excluded(name)}


def _tolerance(case: TestCase) -> dict[str, float]:
    allowed = max(KERNELS[name].tolerance for name in _operators(case))
    cap = max(
        (helper.get_node_attr_value(n, "softcap") for n in case.model.graph.node if _capped(n)), default=0
    )
    return {"rtol": 1e-3, "atol": allowed + 2e-3 * cap}


def _capped(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "softcap" for attribute in node.attribute)


RUNNER = BackendTest(
    SecureBackend, __name__, test_kwargs={name: _tolerance(case) for name, case in CHOSEN.items()}
)
OnnxNodeTest = RUNNER.test_cases["OnnxBackendNodeModelTest"]
# other element types and other layouts of what is tried anyway
SLOW = re.compile(r"fp16|float16|uint|int\d|INT|attention_(3d|4d_diff|4d_gqa)|_random$|with_edge_cases")
for method in [name for name in vars(OnnxNodeTest) if name.startswith("test_")]:
    if method.removesuffix("_cpu") not in CHOSEN:
        delattr(OnnxNodeTest, method)
    elif SLOW.search(method.removesuffix("_cpu")):
        setattr(OnnxNodeTest, method, pytest.mark.slow(getattr(OnnxNodeTest, method)))


def test_nearly_all_official_tests_are_run() -> None:
    whole = [name for name in CASES if not re.match(r"test_cast(like)?_", name)]
    assert len([name for name in whole if name in CHOSEN]) >= 0.95 * len(whole)


def test_every_exclusion_is_needed_and_explained() -> None:
    for pattern, reason in EXCLUDED.items():
        assert reason
        assert any(re.match(pattern, name) for name in CASES), pattern


def _small(op: str, *names: str) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in names]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])]
    graph = helper.make_graph([helper.make_node(op, names, ["y"])], "small", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_backend_takes_inputs_by_order_and_by_name() -> None:
    a, b = np.array([1, 2], np.float32), np.array([0.5, -3], np.float32)
    model = _small("Add", "a", "b")
    assert prepare(model).run([a, b])[0] == pytest.approx(a + b, abs=1e-5)
    assert prepare(model).run({"b": b, "a": a})[0] == pytest.approx(a + b, abs=1e-5)
    assert run_model(model, [a, b])[0] == pytest.approx(a + b, abs=1e-5)


def test_devices() -> None:
    assert supports_device("CPU")
    assert not supports_device("CUDA:0")


def test_what_is_not_supported_is_an_error() -> None:
    with pytest.raises(UnsupportedModelError):
        prepare(_small("Asin", "a")).run([np.zeros(2, np.float32)])
