"""How tests start servers; and a model of three graphs, as exporters write an encoder and its decoder."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import onnxpuma  # noqa: F401  (before any test loads onnxruntime: it ends the telemetry)

# isort: split
import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnxpuma.roles.local import isolated
from tests import nursery

WIDTH, VOCABULARY = 8, 30
AS_USERS_DO = isolated.start


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are processors: many tests wait, for servers, for time-outs, for each other."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (ours or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting makes, modules and test functions, stays out of the garbage collector's sight.

    share_model calls the collector, and so do servers; each call would walk these millions of objects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _out_of_sight() -> None:
    """So does what earlier files have left in memory."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _servers_fork() -> Iterator[None]:
    """Servers of a LocalCluster fork from a process that has loaded the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolated, "start", partial(nursery.start, original=AS_USERS_DO))
        yield
    nursery.close()


@pytest.fixture(scope="module")
def own_interpreters() -> Iterator[None]:
    """For tests of how servers start: each in an interpreter of its own, as users start them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolated, "start", AS_USERS_DO)
        yield


def _value(name: str, *shape: str | int, ids: bool = False) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64 if ids else TensorProto.FLOAT, shape)


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {
        "table": (VOCABULARY, WIDTH),
        "kernel": (WIDTH, WIDTH),
        "cross": (WIDTH, WIDTH),
        "head": (WIDTH, VOCABULARY),
        "bias": (WIDTH,),
    }
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    arrays: dict[str, np.ndarray],
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def encoder() -> onnx.ModelProto:
    """tanh(table[ids] kernel + bias); its bias equals that of the decoders but has another name."""
    has = _weights()
    nodes = [
        helper.make_node("Gather", ["shared.weight", "input_ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "kernel"], ["product"]),
        helper.make_node("Add", ["product", "encoder.bias"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["last_hidden_state"]),
    ]
    return _graph(
        nodes,
        [_value("input_ids", "batch", "sequence", ids=True)],
        [_value("last_hidden_state", "batch", "sequence", WIDTH)],
        {"shared.weight": has["table"], "kernel": has["kernel"], "encoder.bias": has["bias"]},
    )


def _decode(keys: Sequence[NodeProto], prefix: str = "") -> list[NodeProto]:
    """From `keys`, which become "present" (batch, k, WIDTH), to logits; value names begin with `prefix`."""
    p = prefix
    return [
        helper.make_node("Gather", ["embed.weight", "input_ids"], [f"{p}rows"]),
        *keys,
        helper.make_node("Transpose", [f"{p}present"], [f"{p}turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [f"{p}rows", f"{p}turned"], [f"{p}scores"]),
        helper.make_node("Softmax", [f"{p}scores"], [f"{p}weights"], axis=-1),
        helper.make_node("MatMul", [f"{p}weights", f"{p}present"], [f"{p}mixed"]),
        helper.make_node("Add", [f"{p}mixed", "bias"], [f"{p}moved"]),
        helper.make_node("MatMul", [f"{p}moved", "lm_head"], [f"{p}logits"]),
    ]


def _first(prefix: str = "") -> list[NodeProto]:
    return _decode(
        [helper.make_node("MatMul", ["encoder_hidden_states", "cross"], [f"{prefix}present"])], prefix
    )


def _later(prefix: str = "") -> list[NodeProto]:
    join = helper.make_node("Concat", ["past", f"{prefix}rows"], [f"{prefix}present"], axis=1)
    return _decode([join], prefix)


IDS = _value("input_ids", "batch", "length", ids=True)
HIDDEN = _value("encoder_hidden_states", "batch", "sequence", WIDTH)
PAST = _value("past", "batch", "cached", WIDTH)
OUTPUTS = [_value("logits", "batch", "length", VOCABULARY), _value("present", "batch", "kept", WIDTH)]


def _decoder_arrays(*more: str) -> dict[str, np.ndarray]:
    has = _weights()
    return {
        "embed.weight": has["table"],
        "bias": has["bias"],
        "lm_head": has["head"],
        **{name: has[name] for name in more},
    }


def decoder() -> onnx.ModelProto:
    """The first step: attends to the encoder's states, and returns the keys that it derives from them."""
    return _graph(_first(), [IDS, HIDDEN], OUTPUTS, _decoder_arrays("cross"))


def decoder_with_past() -> onnx.ModelProto:
    """Every later step: attends to the past and to itself."""
    return _graph(_later(), [IDS, PAST], OUTPUTS, _decoder_arrays())


def merged_decoder() -> onnx.ModelProto:
    """Both decoders as branches of an If, with the outputs of both."""
    outputs = [*OUTPUTS, _value("seen", "batch", "sequence", WIDTH)]

    def branch(name: str, nodes: list[NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(
            nodes, name, [], [onnx.ValueInfoProto(name=f"{name}.{o.name}", type=o.type) for o in outputs]
        )

    empty = numpy_helper.from_array(np.zeros((0, 1, WIDTH), np.float32))
    later = [*_later("with_past."), helper.make_node("Constant", [], ["with_past.seen"], value=empty)]
    first = [*_first("no_past."), helper.make_node("Neg", ["encoder_hidden_states"], ["no_past.seen"])]
    choice = helper.make_node(
        "If",
        ["use_cache_branch"],
        [o.name for o in outputs],
        then_branch=branch("with_past", later),
        else_branch=branch("no_past", first),
    )
    chosen = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    return _graph([choice], [IDS, HIDDEN, PAST, chosen], outputs, _decoder_arrays("cross"))


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "encoder_model": encoder,
    "decoder_model": decoder,
    "decoder_with_past_model": decoder_with_past,
    "decoder_model_merged": merged_decoder,
}


@pytest.fixture(scope="session")
def write_graphs() -> Callable[..., Path]:
    """Writes the graphs of these names into a folder."""

    def write(folder: Path, *names: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names or list(GRAPHS)[:3]:
            onnx.save(GRAPHS[name](), folder / f"{name}.onnx")
        return folder

    return write


@pytest.fixture(scope="session")
def graphs_folder(write_graphs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder, decoder and decoder with past, as ONNX files."""
    return write_graphs(tmp_path_factory.mktemp("graphs"))
