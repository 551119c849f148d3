"""What does LLaMA-7B cost with all three servers on one machine? Exact shapes, random weights.

    python benchmarks/llama.py [--size 7b] [--memory 2GB] [--cache DIR] [--json]
    python benchmarks/llama.py --size 1b --no-check                    Llama-3.2-1B, in minutes
    python benchmarks/llama.py --model FOLDER --memory 1MB            any exported language model with a cache

tools/export.py writes a checkpoint of random weights and a model.onnx that points into it (that needs the
extra `export`), `onnxpuma share` shares it, and three servers run as processes of this machine over
encrypted loopback connections, each within --memory for its weights. The model reads a prompt of 8 tokens
and opens the next token alone, the setting of the paper [PUMA], and then one token more from the cache that
the servers keep. Seconds are the client's waiting time, planning included. Last it opens the logits after
the same prompt, which are compared with a plain run of the file; --no-check leaves that out. The cache
folder keeps checkpoint and shares: 50 GB for 7b. An earlier run's are used again; then `export` and `share`
have no seconds.

Phases are the means of the three servers: `products` with streamed weights, `stalled` in wait for their
blocks, `waited` for words of the other servers; `reading` runs beside them on a thread of its own, and `key
streams` are a part of the products. Memory is the sum of each server's peak. Linux also keeps pages of the
file of words where memory is free.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from onnxpuma.check.validation import run_in_the_clear
from onnxpuma.commands.options import read_memory
from onnxpuma.graph.load import load
from onnxpuma.observe import RunReport
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.shared.model import is_shared
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.secure import SecureRunner

EXPORT = Path(__file__).resolve().parent.parent / "tools" / "export.py"
TASK = "text-generation-with-past"
SIZES = {
    "7b": "meta-llama/Llama-2-7b-hf",
    "1b": "meta-llama/Llama-3.2-1B",
    "tinyllama": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
}
START_TIMEOUT = 1800.0


@dataclass
class Recording:
    """A client's runs, with the reports of the three servers."""

    client: Client
    outcomes: list[Outcome] = field(default_factory=list)

    def runner(self, servers: LocalCluster) -> SecureRunner:
        """Runs the model; `close` also stops the servers."""
        run = self.client.run

        def recorded(*arguments: Any, **options: Any) -> Outcome:
            self.outcomes.append(run(*arguments, **options))
            return self.outcomes[-1]

        self.client.run = recorded  # type: ignore[method-assign]
        return SecureRunner(self.client, servers)


def command(arguments: Sequence[str], what: str) -> dict[str, float]:
    """Run a command to its end: its seconds, and its peak memory or that of a larger child of its own."""
    print(f"{what} ...", file=sys.stderr)
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    peak = 1024 * usage.ru_maxrss  # which Linux counts in kilobytes
    return {"seconds": time.perf_counter() - began, "peak_rss_bytes": peak}


def exported(size: str, cache: Path) -> tuple[Path, dict[str, float] | None]:
    """The folder of the model, made if missing, and what that took."""
    folder = cache / f"llama-{size}"
    if (folder / "model.onnx").exists():
        return folder, None
    arguments = ["--model", SIZES[size], "--task", TASK, "--random-init", "--in-place", "--out", str(folder)]
    return folder, command([sys.executable, str(EXPORT), *arguments], f"exporting {SIZES[size]}")


def shared(model: Path, cache: Path) -> tuple[Path, dict[str, float] | None]:
    """The folder of its shares, made if missing, and what that took."""
    folder = cache / f"{model.name}-shares"
    if is_shared(folder):
        return folder, None
    arguments = ["share", str(model), "--out", str(folder), "--yes"]
    return folder, command([sys.executable, "-m", "onnxpuma", *arguments], f"sharing {model.name}")


def passes(folder: Path, ids: list[int], memory: int | None, threads: int, check: bool) -> dict[str, Any]:
    """Start three servers: the figures of two passes, and the logits after the prompt."""
    print("starting three servers ...", file=sys.stderr)
    began = time.perf_counter()
    servers = LocalCluster(folder, threads, memory=memory, start_timeout=START_TIMEOUT)
    started = time.perf_counter() - began
    recording = Recording(servers.client())
    runner = recording.runner(servers)
    found: dict[str, Any] = {"start_seconds": started}
    try:
        decoder = causal_decoder(runner)
        token = 0
        for name, given in (("first", ids), ("next", None)):
            began = time.perf_counter()
            token = decoder.read([token] if given is None else given).token
            found[name] = figures(recording.outcomes[-1].reports, time.perf_counter() - began)
            print(f"{name} token: {found[name]['seconds']:.1f} s", file=sys.stderr)
        decoder.close()
        if check:
            decoder = causal_decoder(runner, logits=True)
            found["logits"] = decoder.read(ids).logits
            decoder.close()
    finally:
        runner.close()
    return found


def figures(reports: Sequence[RunReport], seconds: float) -> dict[str, Any]:
    """Of one pass, from the reports of the three servers."""
    uses = [report.streamed for report in reports]
    return {
        "seconds": seconds,
        "bytes_sent": sum(report.bytes_sent for report in reports),
        "rounds": max(report.rounds for report in reports),
        "peak_rss_bytes": [report.peak_rss_bytes for report in reports],
        "bytes_read": [use.bytes_read for use in uses],
        "key_bytes": [use.key_bytes for use in uses],
        "phases": {
            "products": fmean(use.product_seconds for use in uses),
            "stalled": fmean(use.stalled_seconds for use in uses),
            "waited": fmean(report.waited for report in reports),
            "reading": fmean(use.reading_seconds for use in uses),
            "key streams": fmean(use.key_seconds for use in uses),
        },
    }


def plain_logits(model: Path, ids: list[int]) -> np.ndarray:
    """The logits after the prompt from a plain run of the file: (vocabulary,)."""
    feed = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    for value in load(model).graph.inputs:
        if value.name not in feed:  # a cache without a token
            sizes = [d if isinstance(d, int) else 0 for d in value.shape]
            feed[value.name] = np.zeros([1, *sizes[1:]], np.float32)
    return np.asarray(run_in_the_clear(model, feed)["logits"][0, -1], np.float64)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, for JSON."""
    options.cache.mkdir(parents=True, exist_ok=True)
    model, export = (options.model, None) if options.model else exported(options.size, options.cache)
    folder, share = shared(model, options.cache)
    vocabulary = json.loads((model / "config.json").read_bytes())["vocab_size"]
    ids = np.random.default_rng(0).integers(0, vocabulary, options.prompt).tolist()
    found = passes(folder, ids, read_memory(options.memory), options.threads, not options.no_check)
    logits = found.pop("logits", None)
    if logits is not None:
        print("the plain run ...", file=sys.stderr)
        plain = plain_logits(model / "model.onnx", ids)
        found["max_abs_error"] = float(np.abs(logits - plain).max())
        found["reference_max_abs"] = float(np.abs(plain).max())
        found["same_token"] = bool(logits.argmax() == plain.argmax())
    return {
        "model": model.name,
        "prompt": options.prompt,
        "threads": options.threads,
        "memory": options.memory,
        "export": export,
        "share": share,
        "share_bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "seconds": found["first"]["seconds"],
        "next_seconds": found["next"]["seconds"],
        "bytes_sent": found["first"]["bytes_sent"],
        "rounds": found["first"]["rounds"],
        "phases": found["first"]["phases"],
        "peak_rss_bytes": sum(found["next"]["peak_rss_bytes"]),
        **found,
    }


def shown(found: dict[str, Any]) -> Table:
    """As a table for a person."""
    table = Table(title=f"{found['model']}, {found['prompt']} tokens in, 1 out")
    for column in ("", "first token", "next token"):
        table.add_column(column, justify="right" if column else "left")
    first, later = found["first"], found["next"]
    table.add_row("seconds", f"{first['seconds']:.1f}", f"{later['seconds']:.1f}")
    for phase in first["phases"]:
        table.add_row(f"  {phase}", f"{first['phases'][phase]:.1f}", f"{later['phases'][phase]:.1f}")
    table.add_row("MB sent, all parties", *(f"{one['bytes_sent'] / 1e6:,.1f}" for one in (first, later)))
    table.add_row("rounds", str(first["rounds"]), str(later["rounds"]))
    for name, key in (("GB read by each", "bytes_read"), ("GB of key streams", "key_bytes")):
        table.add_row(name, *(", ".join(f"{n / 1e9:.1f}" for n in one[key]) for one in (first, later)))
    peaks = [", ".join(f"{n / 1e9:.2f}" for n in one["peak_rss_bytes"]) for one in (first, later)]
    table.add_row("peak memory of each, GB", *peaks)
    table.add_row("disk for shares, GB", f"{found['share_bytes'] / 1e9:.1f}")
    for name in ("export", "share"):
        if found[name] is not None:
            spent = found[name]
            table.add_row(
                f"{name}: seconds, GB", f"{spent['seconds']:.0f}", f"{spent['peak_rss_bytes'] / 1e9:.2f}"
            )
    if "max_abs_error" in found:
        error = f"{found['max_abs_error']:.4f} of {found['reference_max_abs']:.2f}"
        table.add_row(
            "largest error of the logits", error, "same token" if found["same_token"] else "other token"
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--model", type=Path, help="a folder that tools/export.py wrote, in place of --size")
    parser.add_argument("--prompt", type=int, default=8, help="tokens in (default 8)")
    parser.add_argument(
        "--memory", help="for the weights of each server: 2GB; default: what the machine spares"
    )
    parser.add_argument("--threads", type=int, default=1, help="for products, at each server")
    parser.add_argument("--no-check", action="store_true", help="do not compare with a plain run")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxpuma-benchmarks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        Console().print(shown(found))


if __name__ == "__main__":
    main()
