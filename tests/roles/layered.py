"""A small decoder-like model whose weights can be streamed, and runs of it on given shares."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.weights.residence import Residence
from onnxpuma.roles.local import memory
from onnxpuma.roles.local.memory import run_plan
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares
from onnxpuma.roles.shared.weights import open_shares, read_weights

WIDTH, VOCABULARY = 24, 90


def layered_model(layers: int = 3, width: int = WIDTH, vocabulary: int = VOCABULARY) -> onnx.ModelProto:
    """Ids to logits by a tied table; each layer has a MatMul, a Gemm and a MatMul with a turned weight."""
    rng = np.random.default_rng(layers)
    arrays = {"table": rng.normal(0, 1, (vocabulary, width)), "gain": rng.normal(1, 0.1, width)}
    nodes = [helper.make_node("Gather", ["table", "ids"], ["h0"])]
    for i in range(layers):
        for name, shape in (("a", (width, width + 8)), ("b", (width, width + 8)), ("c", (width, width))):
            arrays[f"{name}{i}"] = rng.normal(0, 0.3, shape)
        arrays[f"bias{i}"] = rng.normal(0, 0.3, width)
        nodes += [
            helper.make_node("MatMul", [f"h{i}", f"a{i}"], [f"p{i}"]),
            helper.make_node("Tanh", [f"p{i}"], [f"t{i}"]),
            helper.make_node("Reshape", [f"t{i}", "rows"], [f"r{i}"]),
            helper.make_node("Gemm", [f"r{i}", f"b{i}", f"bias{i}"], [f"g{i}"], transB=1),
            helper.make_node("Mul", [f"g{i}", "gain"], [f"n{i}"]),
            helper.make_node("Transpose", [f"c{i}"], [f"turned{i}"], perm=[1, 0]),
            helper.make_node("MatMul", [f"n{i}", f"turned{i}"], [f"o{i}"]),
            helper.make_node("Reshape", [f"o{i}", "back"], [f"h{i + 1}"]),
        ]
    nodes += [
        helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
        helper.make_node("MatMul", [f"h{layers}", "head"], ["y"]),
    ]
    constants = [
        *(numpy_helper.from_array(v.astype(np.float32), n) for n, v in arrays.items()),
        numpy_helper.from_array(np.array([-1, width + 8]), "rows"),
        numpy_helper.from_array(np.array([1, -1, width]), "back"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "sequence"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "sequence", vocabulary])
    graph = helper.make_graph(nodes, "layered", [ids], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def interpreters(folder: Path, place: Residence) -> tuple[list[Interpreter], list[Shares]]:
    """The three parties' interpreters of the only graph; close the shares when they are done."""
    model = SharedModel.read(folder)
    shares = [open_shares(folder, party, model) for party in range(3)]
    weights = [next(iter(read_weights(each, model, place).values())) for each in shares]
    return [Interpreter(held, place.window) for held in weights], shares


def run_words(
    folder: Path, place: Residence, feed: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """y of a run whose keys and input shares are always the same, from weights that stay as `place` says."""
    blueprint = SharedModel.read(folder).blueprint
    plan = compile_plan(blueprint, {name: value.shape for name, value in feed.items()}, {})
    found, shares = interpreters(folder, place)
    numbers = itertools.count()
    with monkeypatch.context() as fixed:
        fixed.setattr(secrets, "token_bytes", lambda size: np.random.default_rng(next(numbers)).bytes(size))
        keys = [bytes([i]) * 16 for i in range(3)]
        fixed.setattr(
            memory,
            "local_keys",
            lambda: [PartyKeys.from_keys(i, keys[i], keys[(i + 1) % 3]) for i in range(3)],
        )
        made = run_plan(plan, feed, found).outputs["y"]
    for each in shares:
        each.close()
    return made
