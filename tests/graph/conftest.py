"""What the tests of the graph room share: models as text, and the check that rewriting changes no result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from onnxpuma.graph.canonicalise import Report, canonicalise
from onnxpuma.graph.model import Graph, to_graph

Feeds = dict[str, np.ndarray]


def run_model(model: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:
        return list(ReferenceEvaluator(model).run(None, feeds))
    return list(session.run(None, feeds))


@pytest.fixture(name="run_model")
def run_model_fixture() -> Callable[[onnx.ModelProto, Feeds], list[np.ndarray]]:
    """The outputs of a model, by onnxruntime or, for operators it lacks, by the reference implementation."""
    return run_model


@pytest.fixture
def parsed() -> Callable[[str], onnx.ModelProto]:
    """A checked model from ONNX's text form: `parsed("g (float[2] x) => (float[2] y) { ... }")`."""

    def parse(text: str, opset: int = 20) -> onnx.ModelProto:
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
        onnx.checker.check_model(model)
        return model

    return parse


@pytest.fixture
def rewritten(parsed: Any) -> Callable[..., tuple[Graph, Report]]:
    """Canonicalise a model (text or protobuf) and hold that it computes the same on every set of inputs."""

    def rewrite(
        source: str | onnx.ModelProto, *feeds: Feeds, opset: int = 20, atol: float = 1e-5
    ) -> tuple[Graph, Report]:
        before = parsed(source, opset) if isinstance(source, str) else source
        model = ir.from_proto(before)
        report = canonicalise(model)
        after = ir.to_proto(model)
        onnx.checker.check_model(after, full_check=True)
        for inputs in feeds:
            for was, now in zip(run_model(before, inputs), run_model(after, inputs), strict=True):
                assert was.dtype == now.dtype
                np.testing.assert_allclose(now, was, rtol=1e-4, atol=atol)
        return to_graph(model), report

    return rewrite


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)
