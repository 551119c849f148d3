"""The page docs/exports.md, from the records of the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from matching.combinations import ARCHITECTURES, EXPORTERS, Combination

Records = Sequence[Mapping[str, Any]]

TITLES = {
    "dynamo20": "dynamo, opset 20",
    "dynamo23": "dynamo, opset 23",
    "torchscript17": "TorchScript, opset 17",
    "optimum": "optimum, opset 18",
    "fused": "onnxruntime fused",
    "int8": "int8",
}
NAMED = ("torch", "transformers", "onnxscript", "onnxruntime")
PRICED = "dynamo23"  # whose rounds and bytes are shown
LARGE = 2.0  # above it, the largest value follows the error
NOTHING = "–"
# The two graphs of a merged decoder are shown with those that it merges.
MERGED = {
    "decoder_model_merged.onnx, first run": "decoder_model.onnx",
    "decoder_model_merged.onnx, later run": "decoder_with_past_model.onnx",
}
HEAD = """# Which exports run

Tiny versions of the architectures, two layers of width 64 with random weights, from several exporters, run on
shares and compared with onnxruntime on the same file and the same inputs. A cell is the largest error over
all outputs, at two to four shapes: two rows, one of them padded; one row of another length; with a cache of
some words and with an empty one; one word after a cache. The values are of order 1; where the largest exceeds
2, it follows the error. The requirement is an error of at most 0.02, relative to the largest value where that
is above 1. Rounds and bytes are those of one row (9 words where a whole text is read, else one word), as
dynamo writes it at opset 23, summed over all three parties; dealing the weights is not included.

*onnxruntime fused* is the TorchScript file after `onnxruntime.transformers.optimizer`: nodes of
com.microsoft. *int8* is that file after `onnxruntime.quantization.quantize_dynamic`, compared with the float
model whose weights the integers represent, as activations are not rounded on shares.

{count} exports, {graphs} graphs, {runs} runs on shares; {verdict} Made with {versions}.

    python tools/matrix.py --cache DIR --optimum OPTIMUM_VENV/bin/python --page docs/exports.md

makes this page, and resumes where it was stopped. [export.md](export.md#other-exporters) describes the
environment of optimum; its merged decoders are run as their two graphs.
"""


def worst(records: Records) -> tuple[float, bool]:
    """The largest error in all graphs, cases and outputs, and whether everything ran and matched."""
    errors = [error for error, _ in _differences(records)]
    fine = all(not record.get("error") and all(case["ok"] for case in record["cases"]) for record in records)
    return max(errors, default=0.0), fine and bool(errors)


def page(every: Mapping[Combination, Records]) -> str:
    """The whole page. A combination that is not in `every` was not requested and has no entry in its row."""
    shown = [name for name in EXPORTERS if any(one.exporter == name for one in every)]
    done = [records for records in every.values() if not _not_exported(records)]
    wrong = [one.name for one, records in every.items() if not worst(records)[1] and records in done]
    missing = {one: records for one, records in every.items() if _not_exported(records)}
    verdict = f"these do not match: {', '.join(wrong)}." if wrong else "all of them match."
    text = HEAD.format(
        count=len(done),
        graphs=sum(len(records) for records in done),
        runs=sum(len(record["cases"]) for records in done for record in records),
        verdict=verdict,
        versions=", ".join(f"{name} {version(name).partition('+')[0]}" for name in NAMED),
    )
    lines = [
        _row(["architecture", "task", "graph", *(TITLES[name] for name in shown), "rounds", "kB"]),
        _row(["---"] * 3 + ["---:"] * (len(shown) + 2)),
    ]
    for title, model, tasks in ARCHITECTURES:
        for task in tasks:
            found = {
                one.exporter: records
                for one, records in every.items()
                if (one.model, one.task) == (model, task)
            }
            lines += [_row([title, task, *cells]) for cells in _graphs(found, shown)]
    notes = [f"- {one.name}: {records[0]['error'].partition('. ')[0]}" for one, records in missing.items()]
    return "\n".join([text, *lines, *(["", "Not exported:", "", *notes] if notes else [])]) + "\n"


def _graphs(found: Mapping[str, Records], shown: Sequence[str]) -> Iterable[list[str]]:
    names = dict.fromkeys(
        _graph(record) for records in found.values() if not _not_exported(records) for record in records
    )
    for name in names:
        cells = [name.removesuffix(".onnx")]
        for exporter in shown:
            records = [record for record in found.get(exporter, ()) if _graph(record) == name]
            cells.append(_cell(records))
        priced = [record for record in found.get(PRICED, ()) if _graph(record) == name]
        yield [*cells, *_price(priced)]


def _cell(records: Records) -> str:
    differences = list(_differences(records))
    if not differences:
        return NOTHING
    error, largest = max(differences)
    beside = f" of {largest:.0f}" if largest > LARGE else ""
    return f"{error:.1e}{beside}" if worst(records)[1] else f"**{error:.1e}{beside}**"


def _price(records: Records) -> list[str]:
    for record in records:
        for case in record["cases"]:
            if case["case"].startswith("1 x") and "rounds" in case:
                return [str(case["rounds"]), f"{case['bytes'] / 1e3:.0f}"]
    return [NOTHING, NOTHING]


def _differences(records: Records) -> Iterable[tuple[float, float]]:
    for record in records:
        for case in record["cases"]:
            yield from ((error, largest) for error, largest in case.get("outputs", {}).values())


def _graph(record: Mapping[str, Any]) -> str:
    return MERGED.get(record["graph"], record["graph"])


def _not_exported(records: Records) -> bool:
    return any(record["graph"] == "the export" for record in records)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
