"""Small models whose values have bounds, and graphs that grow at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from onnxpuma.graph.model import Graph
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model

FLOAT = onnx.TensorProto.FLOAT


SHAPE = (2, 6, 24)


def made(nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray]) -> tuple[Blueprint, Graph]:
    """A model from x to the last node's output; floats are secret, integers public."""
    arrays = [
        numpy_helper.from_array(v if v.dtype.kind == "i" else v.astype(np.float32), n)
        for n, v in weights.items()
    ]
    given = [helper.make_tensor_value_info("x", FLOAT, SHAPE)]
    output = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
    graph = helper.make_graph(list(nodes), "bounded", given, [output], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    public = [n for n, v in weights.items() if v.dtype.kind == "i"]
    return prepare_model(ir.serde.deserialize_model(proto), Policy(public=public), rewrite=False)


Grow = Callable[["Chain"], None]


class Chain:
    """A graph that grows at its end, and whose rows finally have 24 elements."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.last = rng, "x"
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.before = ["x"]

    def weight(self, *shape: int, size: float = 1.0, positive: bool = False) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.normal(0, size, shape)
        self.weights[name] = np.abs(values) + 0.1 if positive else values
        return name

    def integers(self, *values: int) -> str:
        name = f"i{len(self.weights)}"
        self.weights[name] = np.array(values, np.int64)
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        self.last = name
        return name


def dense(c: Chain) -> None:
    width = int(c.rng.choice([24, 32]))
    c.add("MatMul", c.last, c.weight(24, width, size=c.rng.choice([0.05, 0.5, 3.0])))
    c.add("Add", c.last, c.weight(width))
    c.add("Gelu", c.last)
    c.add(
        "Gemm", c.add("Reshape", c.last, c.integers(12, width)), c.weight(24, width), c.weight(24), transB=1
    )
    c.add("Reshape", c.last, c.integers(*SHAPE))


def attend(c: Chain) -> None:
    whole = c.add("LayerNormalization", c.last, c.weight(24, size=2.0), c.weight(24))
    heads = []
    for _ in range(3):
        c.add("Add", c.add("MatMul", whole, c.weight(24, 24)), c.weight(24))
        c.add("Reshape", c.last, c.integers(2, 6, 3, 8))
        heads.append(c.add("Transpose", c.last, perm=[0, 2, 1, 3]))
    if c.rng.integers(2):
        c.add("Attention", *heads, is_causal=int(c.rng.integers(2)))
    else:
        turned = c.add("Transpose", heads[1], perm=[0, 1, 3, 2])
        scores = c.add("Softmax", c.add("MatMul", heads[0], turned), axis=-1)
        c.add("MatMul", scores, heads[2])
    c.add("Reshape", c.add("Transpose", c.last, perm=[0, 2, 1, 3]), c.integers(*SHAPE))


def residual(c: Chain) -> None:
    c.add(str(c.rng.choice(["Add", "Sub", "Mul"])), c.last, c.rng.choice(c.before))


def normalise(c: Chain) -> None:
    if c.rng.integers(2):
        c.add("RMSNormalization", c.last, c.weight(24, size=3.0))
    else:
        c.add("LayerNormalization", c.last, c.weight(24), c.weight(24), axis=int(c.rng.choice([-1])))


def activate(c: Chain) -> None:
    op = c.rng.choice(["Relu", "Gelu", "Swish", "Tanh", "Sigmoid", "Softplus", "Erf", "Mish", "HardSwish"])
    c.add(str(op), c.last)


def element(c: Chain) -> None:
    op = str(c.rng.choice(["Abs", "Neg", "Elu", "LeakyRelu", "Sin", "Softmax", "Floor", "HardSigmoid"]))
    c.add(op, c.last)
    if c.rng.integers(2):
        c.add("Sqrt", c.add("Abs", c.last))


def move(c: Chain) -> None:
    c.add("Transpose", c.add("Reshape", c.last, c.integers(6, 2, 8, 3)), perm=[1, 0, 3, 2])
    c.add("Reshape", c.last, c.integers(*SHAPE))


def cut(c: Chain) -> None:
    left = c.add("Slice", c.last, c.integers(0), c.integers(16), c.integers(2))
    right = c.add("Slice", c.nodes[-1].input[0], c.integers(16), c.integers(24), c.integers(2))
    c.add("Concat", right, left, axis=2)


def reduce(c: Chain) -> None:
    op = str(
        c.rng.choice(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceSumSquare", "ReduceL2", "ReduceL1"])
    )
    made = c.add(op, c.last, c.integers(-1), keepdims=1)
    c.add("Mul", c.nodes[-1].input[0], made)


def compare(c: Chain) -> None:
    one, other = c.last, str(c.rng.choice(c.before))
    c.add("Where", c.add("Less", one, other), one, other)


GROWS: tuple[Grow, ...] = (
    dense, attend, residual, normalise, activate, element, move, cut, reduce, compare,
)  # fmt: skip
