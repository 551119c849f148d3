"""What does the next token cost? SmolLM2-135M with its cache at the servers, exact shapes, random weights.

    python benchmarks/tokens.py [--model FOLDER] [--context 64] [--tokens 5] [--latency 40ms] [--json]

Three servers run as processes on this machine over encrypted loopback connections. The model reads a prompt
of one token less than `context`, and then writes token after token; each request opens only the next token.
The script reports the prompt with the first token, and the fastest and the median of the later tokens, which
read a context of `context` tokens and a few more. Seconds are the client's waiting time, planning included.
--model: a folder that tools/export.py wrote; by default one with random weights is made (that needs the extra
`export`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import models
from onnxpuma.config import NetworkConfig
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.secure import on_this_machine

EXPORT = Path(__file__).resolve().parent.parent / "tools" / "export.py"
MODEL, TASK = "HuggingFaceTB/SmolLM2-135M", "text-generation-with-past"
VOCABULARY = 1000  # ids are drawn from below it


def exported(cache: Path) -> Path:
    """The folder of the model with random weights, made if missing."""
    folder = cache / f"{Path(MODEL).name}-{TASK}"
    if not (folder / "model.onnx").exists():
        print(f"exporting {MODEL} ...", file=sys.stderr)
        command = [sys.executable, str(EXPORT), "--model", MODEL, "--task", TASK]
        subprocess.run([*command, "--out", str(folder), "--random-init"], check=True, stdout=sys.stderr)
    return folder


def measure(folder: Path, context: int, tokens: int, threads: int, network: NetworkConfig) -> dict[str, Any]:
    """Figures of the first token and of those after it: the fastest one's seconds, most bytes and rounds."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, context - 1).tolist()
    print("sharing the model among three servers ...", file=sys.stderr)
    runner = on_this_machine(folder, threads, network=network)
    found = []
    try:
        decoder = causal_decoder(runner)
        for number in range(tokens + 1):
            before, began = runner.usage.copy(), time.perf_counter()
            said = decoder.read(ids)
            seconds, used = time.perf_counter() - began, runner.usage.since(before)
            found.append({"seconds": seconds, "bytes": used.bytes_sent, "rounds": used.rounds})
            print(f"token {number + 1}: {seconds:.2f} s", file=sys.stderr)
            ids = [said.token]
        decoder.close()
    finally:
        runner.close()
    later = found[1:]
    return {
        "context": context,
        "threads": threads,
        "first": found[0],
        "seconds": min(one["seconds"] for one in later),
        "median_seconds": median(one["seconds"] for one in later),
        "bytes": max(one["bytes"] for one in later),
        "rounds": max(one["rounds"] for one in later),
        "tokens": later,
    }


def shown(figures: dict[str, Any]) -> Table:
    """As a table for a person."""
    table = Table(title=f"{figures['context']} tokens of context")
    for column in ("", "seconds", "MB, all parties", "rounds"):
        table.add_column(column, justify="right" if column else "left")
    first = figures["first"]
    size = f"{first['bytes'] / 1e6:,.1f}"
    table.add_row("the prompt and the first token", f"{first['seconds']:.2f}", size, str(first["rounds"]))
    seconds = f"{figures['seconds']:.2f} (median {figures['median_seconds']:.2f})"
    table.add_row("a token", seconds, f"{figures['bytes'] / 1e6:,.1f}", str(figures["rounds"]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="an exported folder, in place of random weights")
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="for matrix products, at each server")
    models.add_network(parser)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxpuma-benchmarks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = options.model or exported(options.cache)
    network = models.network_from(options)
    figures = measure(folder, options.context, options.tokens, options.threads, network)
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        Console().print(shown(figures))


if __name__ == "__main__":
    main()
