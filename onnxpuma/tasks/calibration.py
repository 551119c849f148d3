"""Samples to calibrate with, which a task makes from its inputs: texts, chats, pictures, recordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.next_token import SUPPRESSED
from onnxpuma.graph.sampling import default_inputs
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.decoder import MODEL
from onnxpuma.tasks.image import picture_of
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Result, Run, signature
from onnxpuma.tasks.sound import samples
from onnxpuma.tasks.speech import SpeechRecognition
from onnxpuma.tasks.writer import Writer

# How many tokens are written after each sample: steps with a cache show their ranges within a few.
WRITTEN = 4
_DERIVED = (SUPPRESSED, *default_inputs(0))


class Recorder(PlainRunner):
    """Runs graphs in the clear and remembers their feeds."""

    def __init__(self, model: str | Path, threads: int = 1) -> None:
        super().__init__(model, threads)
        self.feeds: list[tuple[str, dict[str, Any]]] = []

    def run(self, run: Run) -> Result:
        self.feeds.append(
            (run.graph, {name: value for name, value in run.feed.items() if name not in _DERIVED})
        )
        result = super().run(run)
        for name, array in (result.outputs | result.kept).items():
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise InputError(f"onnxruntime computes NaN for {name}", "inspect the sample")
        return result


class TaskSamples:
    """The feeds of one graph while `pipe`, on a Recorder, runs on each item; can be iterated repeatedly.

    Memory: the feeds of one item. An InputError names the item, by `names` or by its index, that the task
    refuses or on which onnxruntime fails.
    """

    def __init__(self, pipe: Pipeline, graph: str, items: Sequence[Any], names: Sequence[str] = ()) -> None:
        self._pipe, self._graph, self._items = pipe, graph, items
        self._names = names or [f"calibrate[{place}]" for place in range(len(items))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        runner = self._pipe.runner
        assert isinstance(runner, Recorder)
        for name, item in zip(self._names, self._items, strict=True):
            runner.feeds.clear()
            try:
                self._pipe.one(_as_taken(self._pipe, item), _options(self._pipe))
            except InputError as error:
                raise InputError(f"{name}: {error.message}", error.hint) from error
            yield from [feed for graph, feed in runner.feeds if graph == self._graph]


class Hearing(Pipeline):
    """Runs a model that writes nothing once, on the features that its extractor makes of a recording."""

    def one(self, item: Any, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
        extractor = self.folder.feature_extractor
        rate = int(extractor.sampling_rate)
        made = extractor(samples(item, rate), sampling_rate=rate, return_tensors="np")
        graph = signature(self.runner, MODEL)
        feed = {name: np.asarray(array) for name, array in made.items() if name in graph.inputs}
        return self.runner.run(Run(MODEL, feed, graph.outputs[:1])).outputs


def items_of(given: Any) -> list[Any]:
    """The samples as a list. InputError if there is none, or if `given` is itself a single sample."""
    if isinstance(given, (str, bytes, Path, Mapping)) or not hasattr(given, "__iter__"):
        raise InputError(f"calibrate is a {type(given).__name__}", "pass a list of samples: calibrate=[...]")
    items = list(given)
    if not items:
        raise InputError("calibrate is empty", "pass at least one sample, better a few dozen")
    return items


def _options(pipe: Pipeline) -> dict[str, Any]:
    # `fixed_length` writes on after an end: a graph that continues from a cache needs samples in any case.
    return pipe.options({"max_new_tokens": WRITTEN, "fixed_length": True} if isinstance(pipe, Writer) else {})


def _as_taken(pipe: Pipeline, item: Any) -> Any:
    """An array as the task takes it: bytes (height, width, 3) as a picture, samples with the model's rate."""
    if not isinstance(item, np.ndarray):
        return item
    if isinstance(pipe, (SpeechRecognition, Hearing)):
        return {"array": item, "sampling_rate": int(pipe.folder.feature_extractor.sampling_rate)}
    return picture_of(item) if item.dtype == np.uint8 and item.ndim == 3 else item
