"""Do trained models give the same answers on shares as in the clear? Weights from packages, real data.

    python benchmarks/accuracy.py                                  # all of them: two hours
    python benchmarks/accuracy.py --only minilm,ocr --quick        # two of them, few samples: minutes
    python benchmarks/accuracy.py --write                          # docs/accuracy.md, from the figures so far

Models: minilm, smollm2, whisper, t5, ocr, gemma3, moonshine, guard, opus, tinyllama. Packages and ONNX
files stay in the cache folder (--cache, 8 GB); making them needs the extras `export` and `tasks`, and npm.
The data is in ../shared/data beside the repository (--data); a model whose data is missing is skipped.
Figures are added to the file of --json, model by model, so that several runs make one document; those of
--quick never replace full ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretrained import (
    continuations,
    gemma,
    guards,
    moonshine,
    pictures,
    sentences,
    speech,
    tinyllama,
    titles,
    translations,
)
from pretrained.case import Bench, Case, Measured, Metered
from pretrained.document import written
from pretrained.packages import unpacked

from onnxpuma.commands.options import read_memory
from onnxpuma.tasks import PlainRunner

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    sentences,
    continuations,
    speech,
    titles,
    pictures,
    gemma,
    moonshine,
    guards,
    translations,
    tinyllama,
)
CASES = {module.CASE.key: module.CASE for module in MODULES}


def run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a model, as they are stored in JSON."""
    begin, load = time.perf_counter(), os.getloadavg()[0] / (os.cpu_count() or 1)
    sources = [unpacked(package, options.cache) for package in case.packages]
    folders = case.prepare(sources, options.cache / "models" / case.key)
    _say(case, "sharing the model among three servers ...")
    plain = PlainRunner(folders.plain)
    secure = Metered(folders.secure, options.threads, read_memory(options.memory))
    try:
        bench = Bench(
            plain,
            secure,
            folders.plain,
            options.data / case.data,
            options.quick,
            lambda line: _say(case, line),
        )
        measured = case.measure(bench)
        memory = secure.peak_memory()
    finally:
        secure.close()
        plain.close()
    return kept(case, measured) | {
        "quick": options.quick,
        "threads": options.threads,
        "seconds": time.perf_counter() - begin,
        "peak_memory": memory,
        "machine": machine(),
        "load": load,
    }


def kept(case: Case, measured: Measured) -> dict[str, Any]:
    """The figures of a model that the document reports, for JSON."""
    figures = asdict(measured)
    errors = figures.pop("errors")
    return {
        "title": case.title,
        "about": case.about,
        "packages": [asdict(package) for package in case.packages],
        **figures,
        "error": {
            "largest": errors["largest"],
            "mean": measured.errors.mean,
            "reference": errors["reference"],
        },
    }


def machine() -> str:
    """Processor, cores, memory and Python of this machine; never its name."""
    model = platform.processor() or platform.machine()
    cpu, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpu.exists():
        names = [
            line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    size = ""
    if memory.exists():
        size = f", {int(memory.read_text().split()[1]) / 2**20:.0f} GiB"
    return f"{os.cpu_count()} cores of {model}{size}, Python {platform.python_version()}"


def merged(before: dict[str, Any], key: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Add these figures to those so far; a quick measurement never replaces a full one."""
    if figures["quick"] and key in before and not before[key]["quick"]:
        return before
    return before | {key: figures}


def shown(figures: dict[str, Any]) -> str:
    """The most important figures, for a person at a terminal."""
    lines = [
        f"{figures['title']}",
        f"  {figures['metric']}: {figures['plain']} in the clear, {figures['secure']} on shares",
        f"  {figures['agreement']}; largest error of {figures['error_of']} {figures['error']['largest']:.3g}",
    ]
    for cost in figures["costs"]:
        traffic = f"{cost['bytes_sent'] / 1e6:,.1f} MB, {cost['rounds']:.0f} rounds"
        lines.append(f"  {cost['what']}: {cost['seconds']:.2f} s, {traffic}")
    for target in figures["targets"]:
        mark = "met" if target["met"] else "NOT MET"
        lines.append(f"  {target['what']}: {target['reached']} (wanted {target['wanted']}): {mark}")
    return "\n".join(lines)


def _say(case: Case, line: str) -> None:
    print(f"{case.key}: {line}", file=sys.stderr, flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="few samples")
    parser.add_argument("--threads", type=int, default=1, help="for matrix products, at each server")
    parser.add_argument(
        "--memory", help="for the weights of each server: 1GB; default: what the machine spares"
    )
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "onnxpuma")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "accuracy.json")
    parser.add_argument("--write", action="store_true", help="only write --document from the figures so far")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "accuracy.md")
    return parser


def main(argv: list[str] | None = None) -> int:
    """0 when every requested model was measured, 1 when one was skipped."""
    options = arguments().parse_args(argv)
    figures = json.loads(options.json.read_text()) if options.json.exists() else {}
    names = [name for name in options.only.split(",") if name]
    unknown = [name for name in names if name not in CASES]
    if unknown:
        arguments().error(f"there is no model {', '.join(unknown)}; there are {', '.join(CASES)}")
    left = 0
    for name in [] if options.write else names:
        data = options.data / CASES[name].data
        if not data.is_dir():
            _say(CASES[name], f"skipped: its data is not in {data}")
            left += 1
            continue
        found = run(CASES[name], options)
        print(shown(found))
        figures = merged(figures, name, found)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.write:
        options.document.write_text(written(figures, {key: case.title for key, case in CASES.items()}))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
