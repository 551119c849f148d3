"""The official node tests of every supported operator, at its declared error.

Every input is secret that shares can hold and the operator accepts. Tests without any secret are named in
in_the_clear.txt; those that cannot pass, in excluded.txt. The standard's own runner compares shapes, types
and values (onnx.backend.test); it generates the cases in this process, which takes some seconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.backend.base import BackendRep
from onnx.backend.test import BackendTest
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from onnxpuma.backend import SecureBackend, SecureRep, prepare, run_model, supports_device
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.ops.registry import operators
from operator_samples import SAMPLES
from operators_table import TARGET, WITHOUT
from operators_table import official as counts

HERE = Path(__file__).parent
KERNELS = operators()
# Operators that run without a kernel: as the function that defines them, unrolled, or in the clear.
OTHERS = {"LogSoftmax", "If", "Loop", "Scan", "Shape", "Range", "ConstantOfShape", "Mod", "NonZero"}
FUNCTIONS = {
    "CausalConvWithState": 3e-3,  # of its Swish
    "CenterCropPad": 1e-4,
    "Hardmax": 1e-4,
    "LinearAttention": 1e-3,
    "LpNormalization": 4e-3,  # beside a row of zeros
    "MeanVarianceNormalization": 1e-4,
    "OneHot": 1e-4,
    "Shrink": 1e-4,
    "Softsign": 1e-4,
    "SwiGLU": 6e-3,  # of its Swish, times two
    "TensorScatter": 1e-4,
    "ThresholdedRelu": 1e-4,
}
TOLERANCES = {name: entry.tolerance for name, entry in KERNELS.items()} | FUNCTIONS


def _patterns(file: str) -> dict[str, str]:
    lines = [line for line in (HERE / file).read_text().splitlines() if not line.startswith("#")]
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)


EXCLUDED, IN_THE_CLEAR = _patterns("excluded.txt"), _patterns("in_the_clear.txt")


def _matches(patterns: dict[str, str], name: str) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)


def _operators(case: TestCase) -> set[str]:
    return {node.op_type for node in case.model.graph.node} & (set(TOLERANCES) | OTHERS)


def _tolerance(case: TestCase) -> dict[str, float]:
    made = {"Softplus"} if "softplus" in case.name else set()  # built from a logarithm and an exponential
    allowed = max(TOLERANCES.get(name, 1e-4) for name in _operators(case) | made)
    cap = max(
        (helper.get_node_attr_value(n, "softcap") for n in case.model.graph.node if _capped(n)), default=0
    )
    return {"rtol": 1e-3, "atol": allowed + 2e-3 * cap}


def _capped(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "softcap" for attribute in node.attribute)


class Checked(BackendRep):
    """A prepared model that checks after its run whether it kept anything secret, as it should."""

    def __init__(self, rep: SecureRep, name: str) -> None:
        self.rep, self.name = rep, name

    def run(self, inputs: Any, **_: Any) -> tuple[np.ndarray, ...]:
        outputs = self.rep.run(inputs)
        assert bool(self.rep.secret) != _matches(IN_THE_CLEAR, self.name), self.rep.secret
        return outputs


class CheckedBackend(SecureBackend):
    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Any:
        return Checked(super().prepare(model, device, **kwargs), model.graph.name)


class Official:
    """The official cases. Making them computes their results, so no process does that which only collects."""

    def __init__(self) -> None:
        self.made = load_model_tests(kind="node")
        self.cases = {c.name: c for c in self.made if _operators(c) and not c.name.endswith("_expanded")}
        self.chosen = {name: case for name, case in self.cases.items() if not _matches(EXCLUDED, name)}
        tolerances = {name: _tolerance(case) for name, case in self.chosen.items()}
        runner = BackendTest(CheckedBackend, __name__, test_kwargs=tolerances)
        self._tests = runner.test_cases["OnnxBackendNodeModelTest"]("run")

    def of(self, operator: str) -> list[str]:
        """The chosen cases of an operator; each is one operator's."""
        return [name for name, case in self.chosen.items() if min(_operators(case)) == operator]

    def run(self, name: str) -> None:
        getattr(self._tests, f"{name}_cpu")()


@pytest.fixture(scope="module")
def official() -> Official:
    return Official()


@pytest.mark.parametrize("operator", sorted({*TOLERANCES, *OTHERS}))
def test_the_official_cases_of_an_operator(operator: str, official: Official) -> None:
    failed = []
    for name in official.of(operator):
        try:
            official.run(name)
        except Exception as error:
            failed.append(f"{name}: {error!r}")
    assert not failed, "\n".join(failed)


def test_nearly_all_official_tests_are_run(official: Official) -> None:
    run = [name for operator in {*TOLERANCES, *OTHERS} for name in official.of(operator)]
    assert sorted(run) == sorted(official.chosen)
    assert len(run) >= 0.95 * len(official.cases) > 1000


def test_the_committed_table_tells_their_number(official: Official) -> None:
    rows = [row for row in TARGET.read_text().splitlines() if row.startswith("| ")]
    written = {row.split(" | ")[0].strip("| "): row for row in rows}
    for name, count in counts(official.made).items():
        if name in SAMPLES or name in WITHOUT:
            assert written[name].endswith(f"| {count} |")


@pytest.mark.parametrize("patterns", [EXCLUDED, IN_THE_CLEAR], ids=["excluded", "in the clear"])
def test_every_exception_is_needed_and_explained(patterns: dict[str, str], official: Official) -> None:
    for pattern, reason in patterns.items():
        assert reason
        assert any(re.match(pattern, name) for name in official.cases), pattern


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


def test_what_no_kernel_takes_runs_in_the_clear_and_says_so() -> None:
    arcsine, total = prepare(_small("Asin", "a")), prepare(_small("Add", "a", "b"))
    a = np.array([0.5, -1], np.float32)
    assert arcsine.run([a])[0] == pytest.approx(np.arcsin(a))
    assert arcsine.secret == ()
    total.run([a, a])
    assert total.secret == ("a", "b")


def test_lists_are_not_supported() -> None:
    model = _small("Identity", "a")
    model.graph.input[0].type.Clear()
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(UnsupportedModelError, match="a list"):
        SecureRep(model)
