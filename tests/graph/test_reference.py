"""A model's results in the clear: the file in its declared types, the canonical graph node by node."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxpuma.graph import run
from onnxpuma.graph.canonicalise import ROUNDED, canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import to_graph
from onnxpuma.graph.reference import run_canonical, run_file

DATA = Path(__file__).parent / "data"
X = np.random.default_rng(2).normal(size=(2, 4))
KINDS = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.DOUBLE: np.float64,
}


def doubled(kind: int, path: Path) -> Path:
    """y = 2 x in float32, between inputs and outputs of another type; n counts along."""
    nodes = [
        helper.make_node("Cast", ["x"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["single", "single"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=kind),
        helper.make_node("Identity", ["n"], ["m"]),
    ]
    inputs = [("x", kind, ["n", 4]), ("n", TensorProto.INT64, [])]
    outputs = [("y", kind, ["n", 4]), ("m", TensorProto.INT64, [])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("kind", KINDS, ids=[np.dtype(k).name for k in KINDS.values()])
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
def test_reals_go_in_as_the_file_declares_them(kind: int, given: Any, tmp_path: Path) -> None:
    feed = {"x": X.astype(given), "n": np.array(3), "unknown": X}
    found = run_file(doubled(kind, tmp_path / "model.onnx"), feed)
    want = 2 * X.astype(given).astype(KINDS[kind]).astype(np.float64)
    np.testing.assert_allclose(found["y"].astype(np.float64), want, rtol=1e-6)
    assert found["m"] == 3


def test_nothing_is_fused_or_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x + 1e8 - 1e8 loses its digits, as its nodes demand."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17]>
        g (float[n] x) => (float[n] y) <float big = {100000000}> { a = Add(x, big)  y = Sub(a, big) }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    found = run_file(tmp_path / "model.onnx", {"x": np.array([1.0])})
    np.testing.assert_array_equal(found["y"], [0.0])


@pytest.mark.parametrize("name", ["bert-torchscript-17", "llama-dynamo-18", "gpt2-fused-17"])
def test_the_canonical_graph_node_by_node(name: str, feeds_for: Any) -> None:
    path = DATA / f"{name}.onnx"
    model = load(path)
    report = canonicalise(model)
    assert ROUNDED.isdisjoint(report.rules)
    feed = feeds_for(onnx.load(path), 2, 5)
    want, found = run_file(path, feed), run_canonical(to_graph(model), feed)
    assert list(found) == list(want)
    for key, value in want.items():
        np.testing.assert_allclose(found[key], value, atol=1e-4)


def test_branches_read_what_is_around_them(parsed: Any) -> None:
    model = ir.from_proto(
        parsed(
            """g (float[n] x, bool c) => (float[n] y) {
                a = Neg(x)
                y = If(c) <then_branch = t () => (float[n] b) { b = Add(a, a) },
                           else_branch = e () => (float[n] d) { d = Identity(a) }>
            }"""
        )
    )
    canonicalise(model)
    graph = to_graph(model)
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(run_canonical(graph, {"x": x, "c": np.array(True)})["y"], -2 * x)
    np.testing.assert_array_equal(run_canonical(graph, {"x": x, "c": np.array(False)})["y"], -x)


def test_a_weight_that_is_given(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17]>
        g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {0, 0}> { y = Add(x, w) }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(run_file(tmp_path / "model.onnx", {"x": x})["y"], x)
    np.testing.assert_array_equal(run_file(tmp_path / "model.onnx", {"x": x, "w": x})["y"], 2 * x)


COUNT, WIDTH = 8, 2048


@pytest.fixture
def stored_in_halves(tmp_path: Path) -> Path:
    """y = (x + 1) w' w' ... / 2048 each, with eight weights in another file, 64 MB of float16."""
    size = 2 * WIDTH * WIDTH
    products = "\n".join(
        f"t{k} = Transpose(w{k}) s{k} = Cast <to = 1> (t{k}) "
        f"p{k} = MatMul(x{k}, s{k}) x{k + 1} = Mul(p{k}, part)"
        for k in range(COUNT)
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]> g (float[n, {WIDTH}] x) => (float[n, {WIDTH}] y)
        <float part = {{{1 / WIDTH}}}, float one = {{1}}>
        {{ x0 = Add(x, one) {products} y = Identity(x{COUNT}) }}"""
    )
    for k in range(COUNT):
        weight = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT16, dims=[WIDTH, WIDTH])
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w", "offset": 4096 + k * size, "length": size}.items():
            weight.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(weight)
    onnx.save(model, tmp_path / "model.onnx")
    with (tmp_path / "w").open("wb") as file:
        file.write(bytes(4096))
        file.write(np.ones(COUNT * WIDTH * WIDTH, np.float16).data)
    return tmp_path / "model.onnx"


def own_memory() -> int:
    """The bytes of this process that are in no file."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system does not say how much memory is in files")
    return int(status.read_text().partition("RssAnon:")[2].split()[0]) * 1024


class Peak:
    """The most memory of this process that was in no file, above that at its start."""

    def __enter__(self) -> Peak:
        self.start = self.most = own_memory()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.stop.wait(0.001):
            self.most = max(self.most, own_memory())

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def grown(self) -> int:
        return self.most - self.start


@pytest.mark.parametrize("optimised", [False, True])
def test_of_large_weights_one_at_a_time_is_in_memory(
    optimised: bool, stored_in_halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_LARGEST_COPIED", 10_000_000)
    one = WIDTH * WIDTH * (2 + 4)  # transposed, and in single precision
    with Peak() as memory:
        session = run.open_session(str(stored_in_halves), optimised=optimised)
        (y,) = session.run(["y"], {"x": np.ones((2, WIDTH), np.float32)})
    np.testing.assert_array_equal(y, np.full((2, WIDTH), 2))
    assert memory.grown < 3 * one < COUNT * WIDTH * WIDTH * 4
