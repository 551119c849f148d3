"""What does a drawn token cost, beside the likeliest one? Plans of a row of secret scores between -40 and 40.

    python benchmarks/sampling.py                                        49,152 ids
    python benchmarks/sampling.py --ids 128256 --latency 20 --bandwidth 1000

Rounds and bytes are those that a plan declares, of all three parties together; a test holds them against what
links count (tests/ops/test_sample.py).
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from onnxpuma.mpc.cost import Network
from onnxpuma.plan.examine.choices import ways_taken
from onnxpuma.roles.local.memory import MemoryModel

FARTHEST = 40.0  # from zero, of a score
ROWS = {
    "the likeliest": (0.0, 0, 1, 0),
    "temperature": (1.0, 0, 1, 0),
    "min-p": (1.0, 0, 1, 0.05),
    "top-k of 20": (1.0, 20, 1, 0),
    "top-k of 50": (1.0, 50, 1, 0),
    "top-k of 50, top-p, min-p": (1.0, 50, 0.9, 0.05),
    "top-p of the likeliest 128": (1.0, 128, 0.9, 0),
    "top-p of the likeliest 256": (1.0, 256, 0.9, 0),
    "top-p": (1.0, 0, 0.9, 0),
}


def model(ids: int, network: Network) -> MemoryModel:
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1]),
        helper.make_tensor_value_info("sampling", TensorProto.FLOAT, [5]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, [1])]
    nodes = [
        helper.make_node("MatMul", ["x", "head"], ["scores"]),
        helper.make_node("Sample", ["scores", "sampling"], ["y"], domain="onnxpuma"),
    ]
    weights = [numpy_helper.from_array(np.ones((1, ids), np.float32), "head")]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("onnxpuma", 1)]
    proto = helper.make_model(
        helper.make_graph(nodes, "draw", inputs, outputs, weights), opset_imports=opsets, ir_version=9
    )
    held = MemoryModel(proto, public_inputs=["sampling"], network=network)
    held.blueprint = replace(held.blueprint, declared={"x": [-FARTHEST, FARTHEST]})
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=49152)
    parser.add_argument("--latency", type=float, default=0.1, metavar="MS")
    parser.add_argument("--bandwidth", type=float, default=1000.0, metavar="MBPS")
    options = parser.parse_args()
    held = model(options.ids, Network(options.bandwidth * 1e6, options.latency / 1e3))
    table = Table(title=f"{options.ids:,} ids, {options.latency:g} ms, {options.bandwidth:g} Mbit/s")
    for name in ("", "rounds", "MB", "ways"):
        table.add_column(name, justify="left" if name in ("", "ways") else "right")
    for name, steering in ROWS.items():
        feed = {"x": np.zeros((1, 1), np.float32), "sampling": np.array([*steering, 1], np.float32)}
        plan = held.plan(feed, ["y"])
        (cost,) = (step.cost for step in plan.steps if step.operator.name == "Sample")
        ways = ", ".join(ways_taken(plan).get("Sample", {}))
        table.add_row(name, str(cost.rounds), f"{cost.bytes / 1e6:.2f}", ways)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
