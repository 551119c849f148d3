"""Fixtures of the graph room's tests: models as text, and the check that rewriting changes no result."""

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

# Kind of model -> the operators of one of its layers, whichever exporter wrote it.
EXPECTED = {
    "bert": {"Attention": 1, "Gelu": 1, "LayerNormalization": 3},
    "gpt2": {"Attention": 1, "Gelu": 1, "LayerNormalization": 3},
    "llama": {"Attention": 1, "RMSNormalization": 3, "RotaryEmbedding": 2, "Swish": 1},
    "t5": {"Attention": 1, "Gelu": 1, "RMSNormalization": 3},
    "vit": {"Attention": 1, "Gelu": 1, "LayerNormalization": 3},
}


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
    """A model's outputs, by onnxruntime or, for operators that it lacks, by the reference implementation."""
    return run_model


@pytest.fixture
def parsed() -> Callable[[str], onnx.ModelProto]:
    """A checked model from ONNX's text form: `parsed("g (float[2] x) => (float[2] y) { ... }")`."""

    def parse(text: str, opset: int = 20) -> onnx.ModelProto:
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
        onnx.checker.check_model(model)
        return model

    return parse


def check_same(before: onnx.ModelProto, after: onnx.ModelProto, *feeds: Feeds, atol: float = 1e-5) -> None:
    onnx.checker.check_model(after, full_check=True)
    for inputs in feeds:
        for was, now in zip(run_model(before, inputs), run_model(after, inputs), strict=True):
            assert was.dtype == now.dtype
            np.testing.assert_allclose(now, was, rtol=1e-4, atol=atol)


@pytest.fixture
def same_results() -> Callable[..., None]:
    """Check that a model is valid, and that its results are those of another one on all these inputs."""
    return check_same


@pytest.fixture
def rewritten(parsed: Any) -> Callable[..., tuple[Graph, Report]]:
    """Canonicalise a model (text or protobuf), and check that its results stay the same on all inputs."""

    def rewrite(
        source: str | onnx.ModelProto, *feeds: Feeds, opset: int = 20, atol: float = 1e-5
    ) -> tuple[Graph, Report]:
        before = parsed(source, opset) if isinstance(source, str) else source
        model = ir.from_proto(before)
        report = canonicalise(model)
        check_same(before, ir.to_proto(model), *feeds, atol=atol)
        return to_graph(model), report

    return rewrite


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def feeds_for() -> Callable[[onnx.ModelProto, int, int], Feeds]:
    """Inputs for one of the exported models, of a given batch and length; the first element is padded."""

    def feeds(model: onnx.ModelProto, batch: int, length: int) -> Feeds:
        random = np.random.default_rng(batch)
        if model.graph.input[0].name == "pixel_values":
            return {"pixel_values": random.normal(size=(batch, 3, 8, 8)).astype(np.float32)}
        mask = np.ones((batch, length), np.int64)
        mask[0, -2:] = 0
        return {"input_ids": random.integers(0, 20, (batch, length)), "attention_mask": mask}

    return feeds


@pytest.fixture
def holds() -> Callable[[str, Graph], None]:
    """Check that a graph consists of its model's operators: `holds("bert-dynamo-18", graph)`."""

    def hold(name: str, graph: Graph) -> None:
        counts, expected = graph.histogram(), EXPECTED[name.split("-")[0]]
        assert {op: counts.get(op, 0) for op in expected} == expected

    return hold


@pytest.fixture
def nodes_model() -> Callable[..., onnx.ModelProto]:
    """A model of these nodes: its inputs are floats of the given shapes; its output is y."""

    def build(
        nodes: list[onnx.NodeProto],
        inputs: dict[str, tuple[Any, ...]],
        weights: dict[str, np.ndarray],
        kind: int = onnx.TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        graph = onnx.helper.make_graph(
            nodes,
            "g",
            [onnx.helper.make_tensor_value_info(n, kind, shape) for n, shape in inputs.items()],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(a, n) for n, a in weights.items()],
        )
        imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
        return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)

    return build


@pytest.fixture
def canonical() -> Callable[[onnx.ModelProto], tuple[Graph, onnx.ModelProto]]:
    """A model's canonical form, without a missed rewriting: as a graph, and as a model to run."""

    def rewrite(proto: onnx.ModelProto) -> tuple[Graph, onnx.ModelProto]:
        made = ir.from_proto(proto)
        assert canonicalise(made).missed == {}
        return to_graph(made), ir.to_proto(made)

    return rewrite
