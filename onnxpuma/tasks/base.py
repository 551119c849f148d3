"""The base of all pipelines: calls, options, the usage of a call, closing."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.roles.client.bar import counted
from onnxpuma.roles.client.rows import check_size, pieces
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.port import Runner, Usage

_OF_ALL = frozenset(("batch_size", "progress"))  # options that every pipeline has


class Pipeline(ABC):
    """One task on one model: call it with one input, or with several.

    A list or tuple gives a list of results. An iterator, or an object with a length and items like a dataset,
    is read only as far as results are taken: the call returns a generator.

    Options of every pipeline: batch_size (1: how many inputs share a run, padded to one length; the servers
    see how many, and that length), progress (a bar on stderr; None shows it at a terminal).

    defaults: options for every call that does not set them itself.
    """

    known: ClassVar[frozenset[str]] = frozenset()  # the names of its own options

    def __init__(
        self, task: str, runner: Runner, folder: ModelFolder, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self.task = task
        self.runner = runner  # closed with the pipeline
        self.folder = folder
        self.usage = Usage()  # of the latest call
        self._defaults = self.sifted(defaults or {})
        self.options({})

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.task!r}, {type(self.runner).__name__}, {str(self.folder.path)!r})"
        )

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """The results, in the form of Transformers' pipelines.

        Raises InputError for an input or an option that does not fit, before anything runs; ConfigError for a
        missing tokenizer; and the errors of the runner. Of several inputs, each batch is checked before it
        runs.
        """
        chosen = self.options(options)
        listed = isinstance(inputs, (list, tuple)) and not self.is_one(inputs)
        if not listed and not _is_dataset(inputs):
            (result,) = self._each([[inputs]], 1, chosen, self.alone)
            return result
        if listed and not inputs:
            raise InputError("the list of inputs is empty", "pass at least one")
        total = len(inputs) if hasattr(inputs, "__len__") else None
        batches = pieces(_items(inputs), chosen.get("batch_size") or 1)
        results = self._each(batches, total, chosen, self.among)
        return list(results) if listed else results

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options of a call, defaults included. InputError for one that this task does not have."""
        merged = {**self._defaults, **self.sifted(given)}
        known = self.known | _OF_ALL
        for name in merged:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise InputError(
                    f"{self.task} has no option '{name}'", f"{hint}it has {', '.join(sorted(known))}"
                )
        if merged.get("batch_size") is not None:
            merged["batch_size"] = check_size(merged["batch_size"])
        return merged

    def sifted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options without those that have no effect."""
        return dict(given)

    def is_one(self, inputs: Any) -> bool:
        """Whether this list is a single input."""
        return False

    @abstractmethod
    def one(self, item: Any, options: Mapping[str, Any]) -> Any:
        """The result for one input."""

    def several(self, items: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
        """The results for a batch; one after the other, where a task has no way to compute them together."""
        return [self.one(item, options) for item in items]

    def alone(self, result: Any) -> Any:
        """The return value of a call with one input."""
        return [result]

    def among(self, result: Any) -> Any:
        """The entry for one input in the return value of a call with a list."""
        return result

    def close(self) -> None:
        """Disconnect from the servers, and stop those on this machine."""
        self.runner.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _each(
        self,
        batches: Iterable[list[Any]],
        total: int | None,
        options: Mapping[str, Any],
        entry: Callable[[Any], Any],
    ) -> Generator[Any]:
        """The entries of all batches, in order. `usage` counts what has run so far."""
        before = self.runner.usage.copy()
        with counted(self.task, total, options.get("progress")) as advance:
            for batch in batches:
                try:
                    results = self.several(batch, options)
                finally:
                    self.usage = self.runner.usage.since(before)
                advance(len(batch))
                yield from map(entry, results)


def _is_dataset(inputs: Any) -> bool:
    """Whether this is an iterator of inputs or something like a dataset, rather than a single input."""
    if isinstance(inputs, Iterator):
        return True
    single = isinstance(inputs, (str, bytes, list, tuple, Mapping, np.ndarray))
    return not single and hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")


def _items(inputs: Any) -> Iterable[Any]:
    """The inputs one by one; a dataset need not be iterable."""
    return inputs if hasattr(inputs, "__iter__") else (inputs[place] for place in range(len(inputs)))
