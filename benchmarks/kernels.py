"""What does one operator cost? Bytes, rounds, processor time and error of each kernel on some 10^6 elements.

    python benchmarks/kernels.py [--elements 1000000] [--only Gelu] [--latency 40ms] [--json]

Three parties run as threads of this process over links in memory, with all inputs secret; the reference is
onnxruntime. Seconds are processor time of all three together, so they do not depend on how busy the machine
is. Bytes are the total of the three parties, for each element of the operator's main operand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

import models
from onnxpuma.check.single import compare
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.forms import Bit, Replicated, Sum3, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.compare import is_negative
from onnxpuma.mpc.protocols.linear import matmul, multiply
from onnxpuma.mpc.ring.arrays import unpacked
from onnxpuma.mpc.simulate import shared_reals, simulate
from onnxpuma.ops.spread import truncated
from onnxpuma.roles.request.network import network_of


@dataclass(frozen=True)
class Figure:
    """One kernel at one shape."""

    kernel: str
    shape: str
    elements: int
    bytes_per_element: float
    rounds: int
    cpu_seconds: float
    max_error: float
    mean_error: float


Inputs = dict[str, np.ndarray]
Case = tuple[str, str, Inputs, dict[str, object]]


def cases(elements: int) -> list[Case]:
    """(title, operator, inputs, attributes): bytes are given for each element of the first input."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    def uniform(span: float, *shape: int) -> np.ndarray:
        return rng.uniform(-span, span, shape).astype(np.float32)

    rows = max(1, elements // 768)
    softmax_rows = max(1, elements // 128)
    return [
        ("GELU, |x| < 6", "Gelu", {"x": uniform(6, elements)}, {}),
        ("GELU, |x| < 900", "Gelu", {"x": uniform(900, elements)}, {}),
        ("tanh, |x| < 6", "Tanh", {"x": uniform(6, elements)}, {}),
        ("ReLU", "Relu", {"x": normal(elements, scale=30)}, {}),
        ("exp of any size, -14 < x < 0", "Exp", {"x": -np.abs(uniform(14, elements))}, {}),
        ("softmax (n, 128)", "Softmax", {"x": normal(softmax_rows, 128, scale=5)}, {"axis": -1}),
        (
            "LayerNorm (n, 768)",
            "LayerNormalization",
            {"x": normal(rows, 768), "scale": normal(768), "bias": normal(768)},
            {"axis": -1},
        ),
        ("comparison, x < y", "Less", {"a": normal(elements, scale=30), "b": normal(elements, scale=30)}, {}),
    ]


def measure(title: str, op: str, inputs: Inputs, attributes: dict[str, object], network: Network) -> Figure:
    """One run; the first input decides the shape."""
    first = next(iter(inputs.values()))
    start = time.process_time()
    result = compare(op, dict(inputs), network=network, **attributes)  # type: ignore[arg-type]
    seconds = time.process_time() - start
    error = np.abs(result.got.astype(np.float64) - result.want.astype(np.float64))
    cost = result.outcome.cost
    return Figure(
        title,
        " x ".join(str(d) for d in first.shape),
        first.size,
        cost.bytes / first.size,
        cost.rounds,
        seconds,
        float(error.max()),
        float(error.mean()),
    )


def product_alone(elements: int) -> Figure:
    """x * y truncated to 18 fraction bits, as inside a model (an output's truncation costs nothing)."""
    x, y = np.random.default_rng(0).normal(0, 30, (2, elements))
    return truncated_product("product, truncated", x, y, x * y, multiply)


def matrix_product_alone(elements: int) -> Figure:
    """A ring GEMM and its truncation."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (max(1, elements // 768), 768)), rng.normal(0, 1, (768, 768))
    return truncated_product("matrix product (ring GEMM)", x, y, x @ y, matmul)


def truncated_product(
    title: str, x: np.ndarray, y: np.ndarray, want: np.ndarray, product: Callable[..., Sum3]
) -> Figure:
    def program(party: Party, a: Replicated, b: Replicated) -> Protocol[Replicated]:
        return (yield from truncated(party, product(party, a, b)))

    shares = shared_reals(x), shared_reals(y)
    start = time.process_time()
    run = simulate(program, *shares)
    seconds = time.process_time() - start
    error = np.abs(run.value() - want)
    shape = " x ".join(str(d) for d in x.shape)
    per_element = run.cost.bytes / want.size
    return Figure(title, shape, want.size, per_element, run.cost.rounds, seconds, error.max(), error.mean())


def comparison_alone(elements: int) -> Figure:
    """The sign of a 16-bit value, without the conversion back to a number: the traffic of the comparison
    itself."""
    values = np.random.default_rng(0).integers(-(2**15), 2**15, elements)

    def program(party: Party, x: Replicated) -> Protocol[Bit]:
        return (yield from is_negative(party, see(party, x, 0)))

    shares = shared_reals(values, 0, 16)
    start = time.process_time()
    run = simulate(program, shares)
    seconds = time.process_time() - start
    u, v = (unpacked(run.results[i].plane, elements) for i in (1, 2))
    wrong = float(np.mean((u ^ v) != (values < 0)))
    title, per_element = "comparison, 16 bits", run.cost.bytes / elements
    return Figure(title, f"{elements}", elements, per_element, run.cost.rounds, seconds, wrong, wrong)


def shown(figures: list[Figure]) -> Table:
    """As a table for a person."""
    table = Table(title="Kernels on shares: three parties together")
    for column in ("kernel", "shape", "bytes / element", "rounds", "CPU s", "max error", "mean error"):
        table.add_column(column, justify="left" if column in ("kernel", "shape") else "right")
    for f in figures:
        table.add_row(
            f.kernel,
            f.shape,
            f"{f.bytes_per_element:.1f}",
            str(f.rounds),
            f"{f.cpu_seconds:.2f}",
            f"{f.max_error:.1e}",
            f"{f.mean_error:.1e}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="kernels whose title contains this text")
    parser.add_argument("--json", action="store_true")
    models.add_network(parser)
    options = parser.parse_args()
    network = network_of(models.network_from(options))
    figures = []
    jobs: list[tuple[str, Callable[[], Figure]]] = [
        (title, lambda t=title, o=op, i=inputs, a=attributes: measure(t, o, i, a, network))  # type: ignore[misc]
        for title, op, inputs, attributes in cases(options.elements)
    ]
    alone = {
        "product, truncated": product_alone,
        "matrix product (ring GEMM)": matrix_product_alone,
        "comparison, 16 bits": comparison_alone,
    }
    jobs += [(title, lambda r=run: r(options.elements)) for title, run in alone.items()]  # type: ignore[misc]
    for title, job in jobs:
        if options.only.lower() in title.lower():
            print(f"{title} ...", file=sys.stderr)
            figures.append(job())
    if options.json:
        print(json.dumps([asdict(f) for f in figures], indent=1))
    else:
        Console().print(shown(figures))


if __name__ == "__main__":
    main()
