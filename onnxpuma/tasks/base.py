"""The base of all pipelines: calls, options, the usage of a call, closing."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from onnxpuma.errors import InputError
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.port import Runner, Usage


class Pipeline(ABC):
    """One task on one model: call it with one input, or with a list of inputs, which it takes one by one.

    defaults: options for every call that does not set them itself.
    """

    known: ClassVar[frozenset[str]] = frozenset()  # the names of its options

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
        missing tokenizer; and the errors of the runner.
        """
        chosen = self.options(options)
        before = self.runner.usage.copy()
        try:
            if not isinstance(inputs, (list, tuple)) or self.is_one(inputs):
                return self.alone(self.one(inputs, chosen))
            if not inputs:
                raise InputError("the list of inputs is empty", "pass at least one")
            return [self.among(self.one(item, chosen)) for item in inputs]
        finally:
            self.usage = self.runner.usage.since(before)

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options of a call, defaults included. InputError for one that this task does not have."""
        merged = {**self._defaults, **self.sifted(given)}
        for name in merged:
            if name not in self.known:
                near = difflib.get_close_matches(name, self.known, 1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise InputError(
                    f"{self.task} has no option '{name}'", f"{hint}it has {', '.join(sorted(self.known))}"
                )
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
