"""Run every graph of a folder on shares at several shapes, compare it with onnxruntime, and write a JSON
file.

    python tools/matching/on_shares.py FOLDER RESULT.json

Every folder gets its own process: a failure affects nothing else.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxpuma  # noqa: F401  (before onnxruntime is loaded: it ends the telemetry)

# isort: split
import numpy as np
import onnx_ir as ir
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matching.combinations import REFERENCE
from matching.feeds import Case, cases, feed, meant
from onnxpuma.graph.bind import bind
from onnxpuma.graph.load import load
from onnxpuma.roles.local.memory import MemoryModel

TOLERANCE = 2e-2  # of logits of order 1; relative to the largest value where that is above 1
BRANCH = "use_cache_branch"  # of a merged decoder


def variants(path: Path, inputs: dict[str, list[int | str]]) -> Iterator[tuple[str, ir.Model, Any]]:
    """The graphs of a file: a merged decoder is two, one without a past and one with it."""
    if BRANCH not in inputs:
        yield path.name, load(path), None
        return
    for taken in (False, True):
        model = load(path)
        bind(model, {BRANCH: taken})
        yield f"{path.name}, {'later' if taken else 'first'} run", model, taken


def graph_results(path: Path, config: dict[str, Any], encoded: int) -> Iterator[dict[str, Any]]:
    """One record a graph: its results at each shape, or why it was refused."""
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    standing_in = path.parent / REFERENCE / path.name
    truth = standing_in if standing_in.exists() else path
    session = onnxruntime.InferenceSession(truth, quiet, providers=["CPUExecutionProvider"])
    inputs = {value.name: value.shape for value in session.get_inputs()}
    for title, model, taken in variants(path, inputs):
        record: dict[str, Any] = {"graph": title, "cases": []}
        try:
            shared = MemoryModel(model)
        except Exception as error:
            record["error"] = _said(error)
            yield record
            continue
        wanted = cases(inputs, encoded)
        if taken is False:
            wanted = [Case(2, 4, 0, encoded), Case(1, 1, 0, encoded)]
        elif taken:
            wanted = [case for case in wanted if case.past]
        for case in wanted:
            record["cases"].append(_compared(session, shared, inputs, case, config))
        yield record


def _compared(
    session: Any, shared: MemoryModel, inputs: dict[str, Any], case: Case, config: dict[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {"case": str(case)}
    try:
        given = feed(inputs, case, config)
        names = [value.name for value in session.get_outputs()]
        expected = dict(zip(names, session.run(names, given), strict=True))
        known = {name: value for name, value in given.items() if name in shared.blueprint.inputs}
        began = time.perf_counter()
        outcome = shared.run(known, timeout=400)
        found["seconds"] = round(time.perf_counter() - began, 2)
        found["rounds"], found["bytes"] = outcome.cost.rounds, outcome.cost.bits // 8
        found["outputs"] = {
            name: _difference(outcome.outputs[name], value, meant(value, name, given, case))
            for name, value in expected.items()
            if name in outcome.outputs
        }
        missing = expected.keys() - outcome.outputs.keys()
        if missing:
            raise RuntimeError(f"outputs {sorted(missing)} did not come out")
        close = (error <= TOLERANCE * max(1.0, size) for error, size in found["outputs"].values())
        found["ok"] = all(close)
    except Exception as error:
        found["ok"] = False
        found["error"] = _said(error)
    return found


def _difference(got: np.ndarray, expected: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Largest error and largest value, at the meaningful places."""
    if got.shape != expected.shape:
        raise RuntimeError(f"shape {got.shape}, not {expected.shape}")
    if not where.any():
        return 0.0, 0.0
    return float(np.abs(got - expected)[where].max()), float(np.abs(expected)[where].max())


def _said(error: BaseException) -> str:
    hint = getattr(error, "hint", "")
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    return f"{type(error).__name__}: {str(error)[:1500]} {f'({hint[:500]})' if hint else ''} [{place}]"


def compare(folder: Path) -> list[dict[str, Any]]:
    """The records of all graphs of a folder, in the order in which they run."""
    config = json.loads((folder / "config.json").read_text())
    encoded = 7
    encoder = folder / "encoder_model.onnx"
    if encoder.exists():
        session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
        inputs = {value.name: value.shape for value in session.get_inputs()}
        states = session.run(None, feed(inputs, Case(1, encoded), config))[0]
        encoded = states.shape[1]
    order = ("encoder_model", "decoder_model", "decoder_model_merged", "decoder_with_past_model", "model")
    files = sorted(folder.glob("*.onnx"), key=lambda path: order.index(path.stem))
    return [record for path in files for record in graph_results(path, config, encoded)]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(compare(Path(sys.argv[1])), indent=1) + "\n")
