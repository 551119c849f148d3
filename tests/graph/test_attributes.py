"""Attributes that may have been trained are doubtful: the owner names them in advance, or is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError
from onnxpuma.graph.attributes import classify_attributes
from onnxpuma.graph.model import Graph, Node
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model

ML = "ai.onnx.ml"


def seen(op: str, domain: str = "", version: int = 24, **attributes: Any) -> list[str]:
    """The doubtful attributes of one node."""
    node = Node("n", op, domain, version, ("x",), ("y",), attributes)
    found = classify_attributes(Graph("g", {}, {}, [node], {}, 24))
    assert all(finding.doubtful and not finding.secret for finding in found.values())
    return [name.removeprefix("n.") for name in found]


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.01}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("Selu", {"alpha": 1.6732631921768188, "gamma": 1.0507010221481323}),
        ("LayerNormalization", {"epsilon": 1e-5, "axis": -1}),
        ("Attention", {"scale": 0.08838834764831845}),
        ("Attention", {"scale": 0.08837890625}),  # in half precision
        ("Attention", {"softcap": 50.0}),
        ("Conv", {"kernel_shape": [16, 16], "strides": [4, 4], "group": 1}),
        ("Transpose", {"perm": [0, 2, 1, 3]}),
        ("Einsum", {"equation": "bhqd,bhkd->bhqk"}),
        ("Resize", {"cubic_coeff_a": -0.75, "mode": "cubic"}),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
        ("Cast", {"to": 1}),
        ("ConstantOfShape", {"value": np.zeros(1, np.float32)}),
    ],
)
def test_architecture(op: str, attributes: dict[str, Any]) -> None:
    assert seen(op, **attributes) == []


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.2137}),
        ("Elu", {"alpha": 1.337}),
        ("Swish", {"alpha": 1.234}),
        ("Attention", {"scale": 0.0731}),
        ("ConstantOfShape", {"value": np.array([0.37], np.float32)}),
        ("Constant", {"value": np.array([0.5, 0.3], np.float32)}),
        ("Constant", {"value": np.random.default_rng(0).integers(-128, 128, 64).astype(np.int8)}),
        ("Constant", {"value_floats": [0.5, 0.3]}),
        ("TfIdfVectorizer", {"weights": [0.3, 1.7, 2.1]}),
        ("TfIdfVectorizer", {"pool_strings": ["cancer", "pain"]}),
        ("TfIdfVectorizer", {"pool_int64s": [7, 3, 9, 1, 4, 4, 8, 1, 0, 2, 6, 6, 5, 1, 2, 7, 3, 3]}),
    ],
)
def test_may_be_trained(op: str, attributes: dict[str, Any]) -> None:
    assert seen(op, **attributes) == list(attributes)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LinearClassifier", {"coefficients": [0.5, 0.25], "intercepts": [1.0]}),
        ("LinearRegressor", {"coefficients": [0.1, 0.2, 0.3]}),
        ("Scaler", {"offset": [54.37], "scale": [0.11]}),
        ("Normalizer", {}),
        ("TreeEnsembleRegressor", {"nodes_values": [0.3, 0.0], "nodes_featureids": [4, 9, 2]}),
        ("SVMRegressor", {"support_vectors": [0.1, 2.0], "rho": [0.7]}),
        ("LabelEncoder", {"keys_strings": ["a", "b"], "values_floats": [0.1, 0.9]}),
        ("Imputer", {"imputed_value_floats": [0.31]}),
    ],
)
def test_linear_models_and_trees(op: str, attributes: dict[str, Any]) -> None:
    assert seen(op, ML, 3, **attributes) == list(attributes)
    assert seen(op, ML, 3, post_transform="NONE", norm="L2") == []


def test_those_inside_branches_count() -> None:
    inner = Node("leaky", "LeakyRelu", "", 16, ("x",), ("z",), {"alpha": 0.2137})
    body = Graph("then", {}, {}, [inner], {}, 24)
    node = Node("if", "If", "", 24, ("c",), ("y",), {"then_branch": body})
    assert list(classify_attributes(Graph("g", {}, {}, [node], {}, 24))) == ["leaky.alpha"]


def words(public: list[str] | None = None, **rest: Any) -> Blueprint:
    """The client counts and weighs words; a secret layer follows."""
    vocabulary, weights = [3, 1, 4, 15], [0.37, 1.25, 2.71, 0.91]
    count = helper.make_node(
        "TfIdfVectorizer",
        ["ids"],
        ["counts"],
        name="count",
        mode="TFIDF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        ngram_counts=[0],
        ngram_indexes=[0, 1, 2, 3],
        pool_int64s=vocabulary,
        weights=weights,
    )
    layer = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    graph = helper.make_graph(
        [count, helper.make_node("MatMul", ["counts", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(layer, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    return prepare_model(ir.serde.deserialize_model(model), Policy(public=public or [], **rest))[0]


def test_an_owner_is_shown_what_the_client_computes_with() -> None:
    blueprint = words()
    assert blueprint.doubtful == ("count.weights",)
    (entry,) = blueprint.public_listing()
    assert (entry.name, entry.shape, entry.doubtful) == ("count.weights", (4,), True)
    assert entry.preview[:2] == pytest.approx((0.37, 1.25))
    assert "TfIdfVectorizer" in entry.reason


@pytest.mark.parametrize("pattern", ["count.weights", "count", "count.*", "*"])
def test_an_owner_names_what_may_be_seen(pattern: str) -> None:
    blueprint = words([pattern])
    assert blueprint.doubtful == ()
    assert [entry.doubtful for entry in blueprint.public_listing() if entry.name == "count.weights"] == [
        False
    ]


def test_a_pattern_for_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"count\.heights"):
        words(["count.heights"])
