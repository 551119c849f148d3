"""The graphs of a model as its owner reads them: one at a time, and refused before anything is written."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from onnxpuma.errors import ConfigError, ModelError, UnsupportedModelError
from onnxpuma.graph.folder import Source
from onnxpuma.graph.model import Graph, Initializer
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.declared import check_declared, declare
from onnxpuma.plan.examine.example import symbols
from onnxpuma.plan.examine.kept_bounds import settled
from onnxpuma.plan.examine.support import check_supported
from onnxpuma.plan.examine.widths import alike, check_rings, with_widths
from onnxpuma.plan.owner_policy import DEFAULT, Policy
from onnxpuma.plan.prepare import prepare, resuming
from onnxpuma.roles.owner.dedupe import assign, fingerprint, rank_of
from onnxpuma.roles.owner.samples import Samples, calibrated
from onnxpuma.roles.shared.model import SharedModel

_KEPT = 1 << 26  # an ONNX file of up to this many bytes is read once, a larger one again for its weights

Contents = dict[str, tuple[bytes, int]]  # weight -> fingerprint, rank_of


class Reading:
    """The graphs at `sources`, prepared as `policy` says.

    A large file is read twice, for `survey` and again for `weights`, so that two are never in memory at once.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        policy: Policy = DEFAULT,
        samples: Mapping[str, Samples] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """samples: by graph; they show its ranges. sizes: of dimensions by name, for the example on which a
        graph is tried. Raises ConfigError for samples of a graph that is not there."""
        self._sources = sources
        self._samples = samples or {}
        self._sizes = sizes or {}
        self._unknown = set(self._sizes)  # names of dimensions that no graph has had so far
        strange = set(self._samples) - {source.name for source in sources}
        if strange:
            raise ConfigError(
                f"there are samples for '{min(strange)}', and no graph of this name",
                f"the model's graphs are {', '.join(source.name for source in sources)}",
            )
        self._several = len(sources) > 1
        self._policy = policy
        self._nowhere: set[str] | None = None  # patterns that have matched nothing so far
        self._kept: dict[str, Graph] = {}

    def survey(self) -> SharedModel:
        """The public part of the model.

        Raises what `prepare` raises, UnsupportedModelError, which names all nodes of all graphs that cannot
        run, and ConfigError for a pattern that matches nothing in any graph.
        """
        blueprints: dict[str, Blueprint] = {}
        contents: dict[str, Contents] = {}
        refused: dict[str, UnsupportedModelError] = {}
        for source in self._sources:
            try:
                blueprints[source.name], contents[source.name] = self._survey(source)
            except UnsupportedModelError as error:
                refused[source.name] = error
        if refused:
            raise self._refusal(refused)
        self._check_patterns()
        check_declared(blueprints, self._policy.ranges)
        blueprints = settled(blueprints)
        if self._unknown:
            raise ConfigError(
                f"the model has no dimension '{min(self._unknown)}'", "onnxpuma inspect shows its inputs"
            )
        blueprints = self._with_widths(blueprints)
        if not self._several:
            return SharedModel.of(*blueprints.values())
        same = {(graph, w): found for graph, weights in contents.items() for w, (found, _) in weights.items()}
        blueprints = alike(blueprints, same)
        contents = {name: _scaled(blueprints[name], found) for name, found in contents.items()}
        model = SharedModel(resuming(blueprints, self._policy.keep_only), assign(contents))
        _check_distinct(model)
        return model

    def blueprints(self) -> dict[str, Blueprint]:
        """The graphs by name, whether they can run or not. Otherwise raises as `survey`."""
        made = {source.name: self._prepare(source)[0] for source in self._sources}
        self._check_patterns()
        check_declared(made, self._policy.ranges)
        made = self._with_widths(settled(made))
        return resuming(made, self._policy.keep_only) if self._several else made

    def weights(self, model: SharedModel) -> Iterator[tuple[str, Initializer]]:
        """Every array to be stored, under the names and in the order of `model.arrays`."""
        written: set[str] = set()
        for source in self._sources:
            names = model.stored[source.name]
            due = {names[weight]: weight for weight in model.graphs[source.name].weights}
            due = {array: weight for array, weight in due.items() if array not in written}
            if due:
                yield from self._weights(source, due)
            written.update(due)
            self._kept.pop(source.name, None)  # nobody needs this graph any more

    def _weights(self, source: Source, due: Mapping[str, str]) -> Iterator[tuple[str, Initializer]]:
        graph = self._kept.get(source.name) or self._prepare(source)[1]
        for array, weight in due.items():
            yield array, graph.initializers[weight]

    def _survey(self, source: Source) -> tuple[Blueprint, Contents]:
        blueprint, graph = self._prepare(source)
        there = symbols(blueprint)
        self._unknown -= there.keys()
        check_supported(blueprint, {name: size for name, size in self._sizes.items() if name in there})
        if source.name in self._samples:
            blueprint = calibrated(blueprint, graph, self._samples[source.name])
        if not self._several:
            self._kept[source.name] = graph
            return blueprint, {}
        if source.path.stat().st_size <= _KEPT:
            self._kept[source.name] = graph
        weights = (graph.initializers[name] for name in blueprint.weights)
        return blueprint, {w.name: (fingerprint(w), rank_of(w)) for w in weights}

    def _with_widths(self, blueprints: Mapping[str, Blueprint]) -> dict[str, Blueprint]:
        """The graphs with a ring for each weight, by the bounds that are known now."""
        check_rings(self._policy, blueprints)
        made = {}
        for name, blueprint in blueprints.items():
            there = symbols(blueprint)
            sizes = {symbol: size for symbol, size in self._sizes.items() if symbol in there}
            made[name] = with_widths(blueprint, self._policy, sizes)
        return made

    def _prepare(self, source: Source) -> tuple[Blueprint, Graph]:
        gc.collect()  # a dropped graph is full of cycles: without this two would be in memory at a time
        unmatched: set[str] = set()
        made, graph = prepare(source, self._policy, unmatched if self._several else None)
        self._nowhere = unmatched if self._nowhere is None else self._nowhere & unmatched
        return declare(made, self._policy.ranges), graph

    def _check_patterns(self) -> None:
        if self._nowhere:
            names = ", ".join(source.name for source in self._sources)
            raise ConfigError(
                f"the pattern '{min(self._nowhere)}' matches nothing in any of {names}",
                "onnxpuma inspect lists the names; quote the pattern in a shell",
            )

    def _refusal(self, refused: Mapping[str, UnsupportedModelError]) -> UnsupportedModelError:
        first = next(iter(refused.values()))
        if not self._several:
            return first
        listing = "\n".join(f"{graph}: {error.message}" for graph, error in refused.items())
        return UnsupportedModelError(listing, first.hint)


def _scaled(blueprint: Blueprint, found: Contents) -> Contents:
    """Contents that also differ where the formats do."""
    return {w: (content + bytes(blueprint.format(w)), rank) for w, (content, rank) in found.items()}


def _check_distinct(model: SharedModel) -> None:
    """ModelError for two graphs that differ only in their weights: a request names a graph by its digest."""
    for one, other in combinations(model.graphs, 2):
        alike = model.graphs[one].digest == model.graphs[other].digest
        if alike and model.stored[one] != model.stored[other]:
            raise ModelError(
                f"{one} and {other} are the same graph with different weights",
                "they are two models: share each by itself",
            )
