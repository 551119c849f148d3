"""Scales beside products with a weight are folded into the weight, and no result changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from onnxpuma.graph.canonicalise import Report, canonicalise
from onnxpuma.graph.finding import Finding
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.rules.folding import FACTOR, values_of
from onnxpuma.graph.rules.norm_scale import TITLE as NORMALISATION
from onnxpuma.graph.visibility import classify

F = np.float32


@pytest.fixture
def folded(rewritten: Any, random: np.random.Generator) -> Any:
    """Rewrite a graph of x (2, 3, 6) with weights g b (6), w v (6, 4), t (4, 6), c (4); return the result."""

    def rewrite(body: str, outputs: str = "float[n, m, 4] y", ids: bool = False) -> tuple[Graph, Report]:
        shapes = {"g": (6,), "b": (6,), "w": (6, 4), "v": (6, 4), "t": (4, 6), "c": (4,), "long": (1500, 6)}
        weights = {n: random.normal(size=s).astype(F) for n, s in shapes.items()}
        weights |= {
            "two": np.array(2, F),
            "rows": np.array([-1, 6]),
            "last": np.array(1),
            "k": np.array(0.3, F),
        }
        declared = ", ".join(
            f"{'float' if a.dtype == F else 'int64'}{list(a.shape) if a.ndim else ''} {n}"
            for n, a in weights.items()
        )
        kind = "int64[n, m] x" if ids else "float[n, m, 6] x"
        model = onnx.parser.parse_model(
            f"""<ir_version: 10, opset_import: ["" : 23]>
            g ({kind}, {declared}) => ({outputs}) {{ {body} }}"""
        )
        del model.graph.input[1:]
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
        x = random.integers(0, 6, (2, 3)) if ids else random.normal(size=(2, 3, 6)).astype(F)
        made: tuple[Graph, Report] = rewritten(model, {"x": x}, atol=1e-5)
        return made

    return rewrite


LN = "n = LayerNormalization <axis = -1> (x, g, b)"
RMS = "n = RMSNormalization <axis = -1> (x, g)"


@pytest.mark.parametrize(
    ("body", "histogram"),
    [
        (f"{RMS} y = MatMul(n, w)", {"MatMul": 1}),
        (f"{LN} y = MatMul(n, w)", {"MatMul": 1, "Add": 1}),
        (f"{LN} p = MatMul(n, w) y = Add(p, c)", {"MatMul": 1, "Add": 1}),
        (f"{LN} p = MatMul(n, w) y = Add(c, p)", {"MatMul": 1, "Add": 1}),
        (f"{LN} p = MatMul(n, w) q = MatMul(n, v) y = Add(p, q)", {"MatMul": 2, "Add": 3}),
    ],
)
def test_normalisations(folded: Any, body: str, histogram: dict[str, int]) -> None:
    graph, report = folded(body)
    kind = "RMSNormalization" if body.startswith(RMS) else "LayerNormalization"
    assert report.after == {kind: 1, **histogram}
    assert report.rules[NORMALISATION] == 1
    norm = next(n for n in graph.nodes if n.op == kind)
    assert norm.inputs == ("x", "onnxpuma.ones.6")
    seen = classify(graph)
    assert seen["onnxpuma.ones.6"] == Finding("public", "ones")
    assert all(found.secret for n, found in seen.items() if n != "onnxpuma.ones.6")


def test_a_weight_that_stands_transposed(folded: Any) -> None:
    """It is too large to be transposed while rewriting, so it is multiplied along its other axis."""
    body = f"{LN} u = Transpose <perm = [1, 0]> (long) y = MatMul(n, u)"
    graph, report = folded(body, "float[n, m, 1500] y")
    assert report.after == {"LayerNormalization": 1, "Transpose": 1, "MatMul": 1, "Add": 1}
    assert graph.initializers["long"].shape == (1500, 6)
    assert report.rules[NORMALISATION] == 1


@pytest.mark.parametrize(
    "gemm",
    [
        "h = Gemm(r, w)",
        "h = Gemm(r, w, c)",
        "h = Gemm <transB = 1> (r, t, c)",
        "h = Gemm <alpha = 0.5> (r, w, c)",
        "h = Gemm <transB = 1, alpha = 0.5> (r, t)",
    ],
)
def test_rows_in_another_layout(folded: Any, gemm: str) -> None:
    graph, report = folded(f"{LN} r = Reshape(n, rows) {gemm}", "float[k, 4] h")
    assert report.rules[NORMALISATION] == 1
    assert report.after == {"LayerNormalization": 1, "Reshape": 1, "Gemm": 1}
    assert len(next(n for n in graph.nodes if n.op == "Gemm").inputs) == 3


@pytest.mark.parametrize(("norm", "terms"), [(RMS, 1), (LN, 3)])
def test_a_residual_sum_reads_the_scaled_rows(folded: Any, norm: str, terms: int) -> None:
    graph, report = folded(f"{norm} p = MatMul(n, w) q = MatMul(p, t) y = Add(q, n)", "float[n, m, 6] y")
    assert report.rules[NORMALISATION] == 1
    made = next(n for n in graph.nodes if n.op == "Mul")
    assert made.inputs[1] == "g"
    assert report.after == {made.op: 1, graph.nodes[0].op: 1, "MatMul": 2, "Add": terms}


def test_one_row_picked(folded: Any) -> None:
    _, report = folded(f"{LN} r = Gather <axis = 1> (n, last) y = MatMul(r, w)", "float[n, 4] y")
    assert report.rules[NORMALISATION] == 1


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"{RMS} y = MatMul(n, w)", "float[n, m, 4] y, float[n, m, 6] n"),
        (f"{RMS} p = MatMul(n, w) q = MatMul(x, w) y = Add(p, q)", "float[n, m, 4] y"),
        (f"{RMS} p = MatMul(x, w) q = MatMul(p, t) y = Add(q, n)", "float[n, m, 6] y"),
        (f"{RMS} e = Relu(n) y = MatMul(e, w)", "float[n, m, 4] y"),
        (f"{RMS} u = Transpose <perm = [0, 2, 1]> (n) y = MatMul(n, u)", "float[n, m, m] y"),
    ],
)
def test_normalisations_left_alone(folded: Any, body: str, outputs: str) -> None:
    graph, report = folded(body, outputs)
    assert NORMALISATION not in report.rules
    assert next(n for n in graph.nodes if n.op == "RMSNormalization").inputs == ("x", "g")


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("p = MatMul(x, w) y = Mul(p, k)", "float[n, m, 4] y"),
        ("p = MatMul(x, w) y = Div(p, k)", "float[n, m, 4] y"),
        ("p = MatMul(x, w) q = Add(p, c) y = Mul(q, k)", "float[n, m, 4] y"),
        ("p = Mul(x, k) y = MatMul(p, w)", "float[n, m, 4] y"),
        ("p = Mul(x, k) q = MatMul(p, w) r = MatMul(p, v) y = Add(q, r)", "float[n, m, 4] y"),
        ("r = Reshape(x, rows) p = Gemm(r, w, c) y = Mul(p, k)", "float[l, 4] y"),
        ("p = MatMul(x, w) q = Transpose <perm = [0, 2, 1]> (p) y = Mul(q, k)", "float[n, 4, m] y"),
    ],
)
def test_factors(folded: Any, body: str, outputs: str) -> None:
    _, report = folded(f"{body.replace(' y = ', ' z = ')} y = Relu(z)", outputs)
    assert report.rules[FACTOR] == 1
    assert not {"Mul", "Div"} & set(report.after)


def test_a_factor_on_rows_of_a_table(folded: Any) -> None:
    _, report = folded("r = Gather(w, x) z = Mul(r, k) y = Relu(z)", "float[n, m, 4] y", ids=True)
    assert report.rules[FACTOR] == 1
    assert report.after == {"Gather": 1, "Relu": 1}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("p = MatMul(x, w) z = Mul(p, k) y = Add(z, p)", "float[n, m, 4] y"),
        ("p = MatMul(x, w) q = MatMul(x, w) r = Add(p, q) z = Mul(r, k) y = Relu(z)", "float[n, m, 4] y"),
        ("p = Relu(x) z = Mul(p, k) q = MatMul(z, w) y = Relu(q)", "float[n, m, 4] y, float[n, m, 6] z"),
        ("p = MatMul(x, w) r = Relu(p) z = Mul(r, k) y = Relu(z)", "float[n, m, 4] y"),
    ],
)
def test_factors_left_alone(folded: Any, body: str, outputs: str) -> None:
    _, report = folded(body, outputs)
    assert FACTOR not in report.rules
    assert report.after["Mul"] == 1


def test_weights_are_multiplied_when_they_are_read(tmp_path: Path, random: np.random.Generator) -> None:
    """They get the values of the formula; the file is closed again after each reading."""
    g, b = (random.normal(size=128).astype(F) for _ in range(2))
    w = random.normal(size=(128, 128)).astype(F)
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[n, 128] x) => (float[n, 128] y)
        <float[1] g = {0}, float[1] b = {0}, float[1] w = {0}>
        { n = LayerNormalization <axis = -1> (x, g, b) y = MatMul(n, w) }"""
    )
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in {"g": g, "b": b, "w": w}.items())
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=1024)
    loaded = load(path)
    stored = loaded.graph.initializers["w"].const_value
    canonicalise(loaded)
    assert isinstance(stored, ir.ExternalTensor)
    assert stored.raw is None
    weights = to_graph(loaded).initializers
    wide = w.astype(np.float64)
    np.testing.assert_allclose(weights["w"].numpy(), g[:, None] * wide, rtol=1e-6)
    np.testing.assert_allclose(weights["w_shift"].numpy(), b @ wide, rtol=1e-5, atol=1e-5)
    assert stored.raw is None


def test_threads_may_read_one_constant_of_a_file_at_once(tmp_path: Path) -> None:
    numbers = np.arange(4096, dtype=np.float32)
    (tmp_path / "weights").write_bytes(numbers.tobytes())
    shape = ir.Shape([numbers.size])
    stored = ir.ExternalTensor(
        "weights", 0, numbers.nbytes, ir.DataType.FLOAT, name="scale", shape=shape, base_dir=tmp_path
    )
    read = values_of(ir.Value(name="scale", shape=shape, const_value=stored))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: read(), range(2000)))
    assert all(np.array_equal(values, numbers) for values in found)
