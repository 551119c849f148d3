"""A model in the clear, in onnxruntime on this machine: for comparison, and for trying out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.errors import InputError, ModelError
from onnxpuma.graph.folder import Source, find
from onnxpuma.graph.next_token import LOGITS, NEXT_TOKEN, NEXT_TOKENS, SUPPRESSED
from onnxpuma.graph.run import open_session
from onnxpuma.graph.sampling import DRAWN, default_inputs
from onnxpuma.tasks.plain_draw import drawn_plainly
from onnxpuma.tasks.port import KeptValue, Port, Result, Run, Signature, Usage

_TYPES = {"float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_}


class PlainRunner:
    """Runs the graphs of a folder of ONNX files, or of one file, in onnxruntime.

    model: as for `graph.folder.find`. The outputs and the input of graph/next_token.py are added as sharing
    adds them, so that the same calls write a text here and on shares. Raises ModelError if there is
    no model, and for a file that onnxruntime does not load.
    """

    def __init__(self, model: str | Path, threads: int = 1) -> None:
        self.usage = Usage()
        self._sessions = {source.name: _session(source, threads) for source in find(Path(model)).sources}
        self._random = np.random.default_rng()
        self._graphs = {name: _signature(session) for name, session in self._sessions.items()}

    @property
    def graphs(self) -> Mapping[str, Signature]:
        return self._graphs

    def run(self, run: Run) -> Result:
        begin = perf_counter()
        arrays = dict(run.feed)
        suppressed = arrays.pop(SUPPRESSED, ())
        steering = {name: arrays.pop(name) for name in default_inputs(0) if name in arrays}
        derived = {NEXT_TOKEN, NEXT_TOKENS, *DRAWN}.intersection(run.outputs)
        wanted = [name for name in dict.fromkeys((*run.outputs, *run.keep)) if name not in derived]
        if derived and LOGITS not in wanted:
            wanted.append(LOGITS)
        found = self._run(run.graph, wanted, arrays)
        for name in derived:
            rows = found[LOGITS] if name == NEXT_TOKENS else found[LOGITS][:, -1:]
            if name in DRAWN:
                found[name] = drawn_plainly(rows, suppressed, steering, self._random)
            else:
                found[name] = _best(rows, suppressed)
        self.usage.requests += 1
        self.usage.seconds += perf_counter() - begin
        return Result({name: found[name] for name in run.outputs}, {name: found[name] for name in run.keep})

    def release(self, kept: Sequence[KeptValue]) -> None:
        """Arrays need no release."""

    def close(self) -> None:
        self._sessions.clear()

    def _run(self, graph: str, names: list[str], arrays: dict[str, Any]) -> dict[str, np.ndarray]:
        session = self._sessions[graph]
        kinds = {port.name: port.dtype for port in self._graphs[graph].inputs.values()}
        try:
            cast = {name: np.asarray(value).astype(kinds[name]) for name, value in arrays.items()}
            return dict(zip(names, session.run(names, cast), strict=True))
        except Exception as error:  # onnxruntime raises many types of its own
            raise InputError(
                f"onnxruntime cannot run {graph} on these inputs: {error}",
                "use the tokenizer or the feature extractor that belongs to this model",
            ) from error


def _session(source: Source, threads: int) -> Any:
    # If the file contains two graphs, this one is cut out as sharing does it.
    model = ir.to_proto(source.load()).SerializeToString() if source.bound else str(source.path)
    try:
        return open_session(model, threads)
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot load {source.path.name}: {error}", "export the model again"
        ) from error


def _signature(session: Any) -> Signature:
    inputs = {arg.name: Port(arg.name, _dtype(arg.type), tuple(arg.shape)) for arg in session.get_inputs()}
    outputs = {arg.name: len(arg.shape) for arg in session.get_outputs()}
    if outputs.get(LOGITS) == 3 and "input_ids" in inputs:
        inputs[SUPPRESSED] = Port(SUPPRESSED, np.dtype(np.int64), ("suppressed",))
        outputs |= dict.fromkeys((NEXT_TOKEN, NEXT_TOKENS), 2)
        size = next(arg.shape[-1] for arg in session.get_outputs() if arg.name == LOGITS)
        if isinstance(size, int):
            outputs |= dict.fromkeys(DRAWN, 2)
            for name, value in default_inputs(size).items():
                inputs[name] = Port(name, value.dtype, value.shape)
    return Signature(inputs, tuple(outputs))


def _dtype(declared: str) -> np.dtype[Any]:
    name = declared.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_TYPES.get(name, name))


def _best(logits: np.ndarray, suppressed: Any) -> np.ndarray:
    """(batch, positions): the id of the largest logit at each position, of those not suppressed."""
    left = logits.astype(np.float32)
    left[..., np.asarray(suppressed, np.int64)] = -np.inf
    return left.argmax(axis=-1)
