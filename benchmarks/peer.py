"""What does the same model cost with SecretFlow SPU [SPU], set up as PUMA does [PUMA], on the same machine?

    python benchmarks/peer.py [--model bert] [--repeat 2] [--exported FOLDER] [--cache DIR] [--json]
    python benchmarks/peer.py --model gpt2 --layers 1 --tokens 8 --only spu     quickly
    python benchmarks/peer.py --model gelu     one function on 128,000 numbers; softmax, less, product too

Both take turns: three processes of the one on this machine, requests to them, then three of the other.
Token ids and weights are secret and random, the shapes exact. SPU gets an environment of its own in the cache
folder, where pip installs it the first time; it needs Python 3.10 or 3.11. --exported is a folder of
tools/export.py; without it one with random weights is made, which needs the extra `export`.

Seconds of SPU are those of its run alone, of onnxpuma those that a client waits, with its shares on the way.
SPU's links are plain TCP, onnxpuma's encrypted. The error is that of the output against a plain run of the
exact functions: Flax's own model for SPU, onnxruntime for onnxpuma. SPU counts the sends of a party, not
rounds. Processor seconds are those of all three parties; other programs on the machine disturb them less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from spu_cluster import PACKAGES, Figures, Spu, environment

import models
from onnxpuma.check.validation import difference, run_in_the_clear
from onnxpuma.plan.examine.example import choose_shapes, draw_inputs
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.local.cluster import LocalCluster

TOKENS = {"bert": 128, "gpt2": 32}
SINGLE = ("gelu", "softmax", "less", "product")
SIDES = ("onnxpuma", "spu")


# ---- onnxpuma -----------------------------------------------------------------------------------------


class Ours:
    """A model on onnxpuma."""

    def __init__(self, file: Path, tokens: int, requests: int, threads: int) -> None:
        self._file, self._requests, self._threads = file, requests, threads
        blueprint, _ = prepare(file)
        self._feed = draw_inputs(blueprint, choose_shapes(blueprint, {"batch": 1, "sequence": tokens}))
        self._reference = run_in_the_clear(file, self._feed)
        self._seconds: list[float] = []
        self._processor: list[float] = []

    def turn(self) -> None:
        """Three fresh processes, and the requests to them."""
        print("onnxpuma: sharing among three servers ...", file=sys.stderr)
        with LocalCluster(self._file, threads=self._threads) as cluster, cluster.client() as client:
            for _ in range(self._requests):
                before = _spent(cluster.pids)
                self._outcome = client.run(self._feed)
                self._seconds.append(self._outcome.seconds)
                self._processor.append(_spent(cluster.pids) - before)
        print(f"onnxpuma: {self._seconds[-self._requests :]} s", file=sys.stderr)

    def figures(self) -> Figures:
        reports = self._outcome.reports
        name, output = next(iter(self._outcome.outputs.items()))
        apart = difference(output, self._reference[name])
        return Figures(
            "onnxpuma",
            self._seconds,
            self._processor,
            sum(report.bytes_sent for report in reports),
            max(report.rounds for report in reports),
            apart.max_abs_error,
            apart.mean_abs_error,
            apart.reference_max_abs,
            max(report.peak_rss_bytes for report in reports),
        )


def _spent(pids: Sequence[int]) -> float:
    """Processor seconds of these processes so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def exported(model: str, layers: int | None, cache: Path) -> Path:
    """The ONNX file of a model with random weights, made if missing."""
    (case,) = (case for case in models.CASES if case.folder.startswith(model))
    if layers is None:
        return models.exported(case, cache)
    source = cache / f"{case.folder}-{layers}-source"
    source.mkdir(parents=True, exist_ok=True)
    kind = {"model_type": model, "num_hidden_layers" if model == "bert" else "n_layer": layers}
    (source / "config.json").write_text(json.dumps(kind))
    return models.exported(models.Case(case.title, str(source), case.task, case.sequence), cache)


# ---- both ---------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> list[Figures]:
    """The figures of each side."""
    tokens = options.tokens or TOKENS.get(options.model, 1)
    sides: list[Ours | Spu] = []
    with tempfile.TemporaryDirectory(prefix="onnxpuma-peer-") as folder:
        if options.only != "spu" and options.model not in SINGLE:
            given = options.exported and options.exported / "model.onnx"
            file = given or exported(options.model, options.layers, options.cache)
            sides.append(Ours(file, tokens, options.requests, options.threads))
        if options.only != "onnxpuma":
            task = {
                "work": options.model,
                "layers": options.layers,
                "tokens": tokens,
                "one_hot": options.table == "one-hot",
                "requests": options.requests,
            }
            sides.append(Spu(environment(options.cache), Path(folder), task))
        for _ in range(options.repeat):
            for side in sides:
                side.turn()
        return [side.figures() for side in sides]


def shown(title: str, figures: Sequence[Figures]) -> Table:
    """As a table for a person."""
    table = Table(title=title)
    table.add_column("")
    for one in figures:
        table.add_column(one.name, justify="right")
    rows = {
        "seconds, fastest (all)": lambda one: f"{min(one.seconds):.1f} ({_joined(one.seconds)})",
        "processor seconds, fewest": lambda one: f"{min(one.processor):.1f}",
        "bytes sent, all parties": lambda one: f"{one.bytes_sent / 1e6:,.1f} MB",
        "rounds; of SPU, sends of a party": lambda one: f"{one.exchanges:,}",
        "max / mean error": lambda one: f"{one.max_error:.1e} / {one.mean_error:.1e} of {one.largest:.2f}",
        "peak memory of a party": lambda one: f"{one.peak / 1e9:.2f} GB",
    }
    for name, written in rows.items():
        table.add_row(name, *(written(one) for one in figures))
    return table


def _joined(seconds: Sequence[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in seconds)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", choices=(*TOKENS, *SINGLE), default="bert", help="a single function is SPU's alone"
    )
    parser.add_argument("--tokens", type=int, help="default: 128 for bert, 32 for gpt2")
    parser.add_argument("--layers", type=int, help="fewer layers than the model has, to try quickly")
    parser.add_argument("--repeat", type=int, default=1, help="turns of each side")
    parser.add_argument("--requests", type=int, default=2, help="to the same processes, in one turn")
    parser.add_argument("--only", choices=SIDES, help="one side alone")
    parser.add_argument(
        "--table",
        choices=("one-hot", "loop"),
        default="one-hot",
        help="how SPU finds words: as PUMA, or by itself",
    )
    parser.add_argument("--exported", type=Path, help="a folder of tools/export.py, for onnxpuma")
    parser.add_argument(
        "--threads", type=int, default=1, help="of onnxpuma, for matrix products, at each server"
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxpuma-benchmarks")
    parser.add_argument("--json", action="store_true")
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.exported and options.layers:
        parser.error("--exported has its layers: leave --layers out, or --exported")
    figures = measure(options)
    if options.json:
        print(json.dumps({"packages": PACKAGES, "sides": [asdict(one) for one in figures]}, indent=1))
        return
    tokens = options.tokens or TOKENS.get(options.model)
    title = f"{options.model}, {options.layers or 'all'} layers, {tokens} tokens"
    if options.model in SINGLE:
        title = f"{options.model}, 1000 x 128 numbers between -6 and 6"
    Console().print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {', '.join(PACKAGES)}")
    Console().print(shown(title, figures))


if __name__ == "__main__":
    main()
