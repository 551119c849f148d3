"""What does a whole model cost? BERT-base at 128 tokens and GPT-2 at 32, exact shapes, random weights.

    python benchmarks/models.py [--only bert] [--runs 3] [--latency 40ms] [--cache DIR] [--json]

Three servers run as processes on this machine over encrypted loopback connections; token ids and weights are
secret, masks public. tools/export.py makes the models with --random-init (that needs the extra `export`), and
they stay in the cache folder. Seconds are those of the fastest run, from the first byte that the client sends
to the last it receives; the first run's are given too. The reference is onnxruntime. --latency and
--bandwidth name the network for which requests are planned; the connections remain those of this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from onnxpuma.check.validation import run_in_the_clear, validation
from onnxpuma.commands.options import USUAL_BANDWIDTH, USUAL_LATENCY, read_network
from onnxpuma.config import NetworkConfig
from onnxpuma.plan.examine.example import choose_shapes, draw_inputs
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.local.cluster import LocalCluster

EXPORT = Path(__file__).resolve().parent.parent / "tools" / "export.py"


@dataclass(frozen=True)
class Case:
    """One model at one size."""

    title: str
    model: str
    task: str
    sequence: int

    @property
    def folder(self) -> str:
        return f"{self.model}-{self.task}"


CASES = (
    Case("BERT-base, 128 tokens", "bert-base-uncased", "feature-extraction", 128),
    Case("GPT-2 base, 32 tokens", "gpt2", "text-generation", 32),
)


def exported(case: Case, cache: Path) -> Path:
    """The ONNX file of a case, made if missing."""
    folder = cache / case.folder
    file = folder / "model.onnx"
    if not file.exists():
        print(f"exporting {case.title} ...", file=sys.stderr)
        command = [sys.executable, str(EXPORT), "--model", case.model, "--task", case.task]
        subprocess.run([*command, "--out", str(folder), "--random-init"], check=True, stdout=sys.stderr)
    return file


def measure(case: Case, cache: Path, runs: int, threads: int, network: NetworkConfig) -> dict[str, Any]:
    """Run a case `runs` times; the figures of the fastest run."""
    file = exported(case, cache)
    blueprint, _ = prepare(file)
    feed = draw_inputs(blueprint, choose_shapes(blueprint, {"batch": 1, "sequence": case.sequence}))
    reference = run_in_the_clear(file, feed)
    print(f"sharing {case.title} among three servers ...", file=sys.stderr)
    found = []
    with LocalCluster(file, threads=threads, network=network) as cluster, cluster.client() as client:
        for number in range(runs):
            outcome = client.run(feed)
            found.append(
                validation(
                    outcome.outputs, reference, outcome.reports, outcome.seconds, outcome.setup_seconds
                )
            )
            print(f"run {number + 1} of {runs}: {outcome.seconds:.2f} s", file=sys.stderr)
    best = min(found, key=lambda one: one.seconds)
    return {
        "title": case.title,
        "seconds_first": found[0].seconds,
        "bytes_total": sum(best.bytes_sent),
        **best.as_dict(),
    }


def shown(figures: dict[str, Any]) -> list[Table]:
    """As tables for a person: the totals, and a row for each operator."""
    totals = Table(title=figures["title"])
    totals.add_column("figure")
    totals.add_column("value", justify="right")
    totals.add_row("seconds online (first run)", f"{figures['seconds']:.2f} ({figures['seconds_first']:.2f})")
    totals.add_row("bytes sent, all parties", f"{figures['bytes_total'] / 1e6:,.1f} MB")
    totals.add_row("bytes sent, each", ", ".join(f"{b / 1e6:,.1f}" for b in figures["bytes_sent"]) + " MB")
    totals.add_row("rounds", str(figures["rounds"]))
    totals.add_row(
        "peak memory, each", ", ".join(f"{b / 1e9:.2f}" for b in figures["peak_rss_bytes"]) + " GB"
    )
    for name, apart in figures["outputs"].items():
        errors = f"{apart['max_abs_error']:.4f} / {apart['mean_abs_error']:.5f}"
        totals.add_row(f"{name}: max / mean error", f"{errors} of {apart['reference_max_abs']:.2f}")
    table = Table(title="by operator, one party")
    for column in ("operator", "steps", "seconds", "MB sent", "rounds"):
        table.add_column(column, justify="left" if column == "operator" else "right")
    rows = sorted(figures["operators"].items(), key=lambda item: -item[1]["seconds"])
    for name, use in rows:
        seconds, sent = f"{use['seconds']:.2f}", f"{use['bytes_sent'] / 1e6:.1f}"
        table.add_row(name, str(use["steps"]), seconds, sent, str(use["rounds"]))
    return [totals, table]


def add_network(parser: argparse.ArgumentParser) -> None:
    """The options that name the network for which requests are planned."""
    parser.add_argument("--bandwidth", default=USUAL_BANDWIDTH, help="upload rate of one party: 1Gbit")
    parser.add_argument("--latency", default=USUAL_LATENCY, help="one way, half of a ping: 0.1ms")


def network_from(options: argparse.Namespace) -> NetworkConfig:
    return read_network(options.bandwidth, options.latency)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose title contains this text")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="for matrix products, at each server")
    add_network(parser)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxpuma-benchmarks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = [c for c in CASES if options.only.lower() in c.title.lower()]
    figures = [
        measure(case, options.cache, options.runs, options.threads, network_from(options)) for case in cases
    ]
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        console = Console()
        for one in figures:
            for table in shown(one):
                console.print(table)


if __name__ == "__main__":
    main()
