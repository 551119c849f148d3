"""Run random small graphs on shares and count how many answers are right, marked, refused or wrong.

python tools/random_graphs.py --count 10000 --seed 1 --jobs 2 --out found

Prints a table, and the wrong answers grouped by the node they accuse; with --out writes each as NUMBER.onnx
and NUMBER.npz. trial/verdict.py defines wrong answers. The same seed, count and jobs draw the same graphs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings

from trial.graphs import Drawn, graphs
from trial.verdict import KINDS, Verdict, accused, judged

WRITTEN = ("wrong", "crashed", "coarse")


@dataclass(frozen=True)
class Found:
    """One graph whose answer was not simply right."""

    kind: str
    steps: str
    about: str
    culprit: str = ""
    path: str = ""


def tried(count: int, start: int, out: Path | None = None, most: int = 8) -> tuple[Counter[str], list[Found]]:
    """Draw and judge `count` graphs. Returns how many of each kind, and those that need a look."""
    kinds: Counter[str] = Counter()
    found: list[Found] = []

    @seed(start)
    @settings(
        max_examples=count,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs(most))
    def each(drawn: Drawn) -> None:
        try:
            verdict = judged(drawn.model, drawn.feed)
        except Exception as error:  # an error of the judge must not lose thousands of other graphs
            verdict = Verdict("crashed", reason=f"while it was judged: {type(error).__name__}: {error}")
        number = sum(kinds.values())
        kinds[verdict.kind] += 1
        if verdict.kind in WRITTEN:
            found.append(_noted(drawn, verdict, out, f"{start}_{number}"))
        elif verdict.kind == "refused":
            found.append(Found("refused", repr(drawn), verdict.reason))

    each()
    return kinds, found


def _noted(drawn: Drawn, verdict: Verdict, out: Path | None, name: str) -> Found:
    path = ""
    if out is not None:
        folder = out / verdict.kind
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / f"{name}.onnx")
        onnx.save(drawn.model, path)
        np.savez(folder / f"{name}.npz", **drawn.feed)
    if verdict.kind == "crashed":
        return Found("crashed", repr(drawn), verdict.reason, path=path)
    about = f"{verdict.output} off by {verdict.error:.3g} of {verdict.largest:.3g}"
    about += f", {verdict.explained:.2g} explained"
    try:
        culprit = accused(drawn.model, drawn.feed)
    except Exception as error:
        culprit = f"nobody: {type(error).__name__}: {error}"
    return Found(verdict.kind, repr(drawn), about, culprit, path)


def _work(given: tuple[int, int, Path | None, int]) -> tuple[Counter[str], list[Found]]:
    return tried(*given)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = time.perf_counter()
    share = -(-args.count // args.jobs)
    tasks = [(share, args.seed * 1000 + job, args.out, args.steps) for job in range(args.jobs)]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        parts = pool.map(_work, tasks)
    kinds: Counter[str] = Counter()
    for part, _ in parts:
        kinds.update(part)
    found = [f for _, some in parts for f in some]
    for kind in KINDS:
        print(f"{kind:8} {kinds[kind]:6}")
    print(f"{'all':8} {sum(kinds.values()):6}  in {time.perf_counter() - began:.0f} s")
    for kind in ("crashed", "wrong", "coarse"):
        for f in sorted((f for f in found if f.kind == kind), key=lambda f: f.culprit):
            print(f"{kind}: {f.culprit} | {f.steps} | {f.about} {f.path}")
    for kind in ("crashed", "refused"):
        reasons = Counter(_shape_of(f.about) for f in found if f.kind == kind)
        for reason, count in reasons.most_common(30):
            print(f"{kind} {count:5} {reason}")


def _shape_of(reason: str) -> str:
    """The reason without names and numbers."""
    words = reason.replace("\n", " ").split()
    return " ".join("#" if any(c.isdigit() for c in w) else w for w in words)[:200]


if __name__ == "__main__":
    main()
