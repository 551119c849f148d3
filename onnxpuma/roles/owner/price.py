"""What a model will cost before anything is shared: `onnxpuma.price`, and what `onnxpuma inspect` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from onnxpuma.config import NetworkConfig
from onnxpuma.errors import ConfigError
from onnxpuma.graph.folder import ONLY_GRAPH, find
from onnxpuma.mpc.cost import Network
from onnxpuma.plan.examine.example import draw_inputs, sizes_in, sizes_of, symbols
from onnxpuma.plan.examine.page import page, summary, totals
from onnxpuma.plan.examine.report import ModelReport, report
from onnxpuma.plan.examine.support import fitting_shapes
from onnxpuma.plan.owner_policy import DEFAULT, Policy
from onnxpuma.plan.weights.residence import Residence
from onnxpuma.roles.owner.reading import Reading
from onnxpuma.roles.request.network import network_of
from onnxpuma.roles.shared.model import SharedModel, is_shared


@dataclass(frozen=True, repr=False)
class Price:
    """The predicted cost of one run of each graph of a model."""

    model: str
    graphs: dict[str, ModelReport]
    # The sizes of dimensions that nobody asked for.
    assumed: dict[str, int]

    @property
    def report(self) -> ModelReport:
        """The report of the only graph. ConfigError where there are several."""
        if len(self.graphs) != 1:
            raise ConfigError(f"{self.model} has several graphs", f"see .graphs: {', '.join(self.graphs)}")
        return next(iter(self.graphs.values()))

    @property
    def bytes(self) -> int:
        """Sent by all three servers in one run of each graph."""
        return sum(each.bytes for each in self.graphs.values())

    @property
    def rounds(self) -> int:
        return sum(each.rounds for each in self.graphs.values())

    @property
    def seconds(self) -> float:
        """The time of these runs, computing included, on three machines like this one."""
        return sum(each.predicted.whole for each in self.graphs.values())

    @property
    def refused(self) -> dict[str, str]:
        """The nodes that cannot run on shares, and why."""
        return {node.name: node.refused for each in self.graphs.values() for node in each.refused}

    def html(self) -> str:
        """A page for a browser: where time, bytes and rounds go, by layer and by operator."""
        return page(f"The price of {self.model}", self.graphs, self.assumed)

    def plot(self) -> Any:
        """The same as a figure of matplotlib, for a model of one graph. Raises BuildError without it."""
        return self.report.plot()

    def __repr__(self) -> str:
        lines = [
            f"{f'{name}: ' if len(self.graphs) > 1 else ''}{totals(each)}"
            for name, each in self.graphs.items()
        ]
        sizes = ", ".join(f"{name} = {size}" for name, size in self.assumed.items())
        assumed = [f"sizes assumed: {sizes}"] if sizes else []
        return "\n  ".join([f"<Price of {self.model}", *assumed, *lines]) + ">"

    def _repr_html_(self) -> str:
        sizes = ", ".join(f"{name} = {size}" for name, size in self.assumed.items())
        parts = [f"<p>Sizes assumed: {escape(sizes)}</p>"] if sizes else []
        for name, each in self.graphs.items():
            parts += [f"<h4>{escape(name)}</h4>" if len(self.graphs) > 1 else "", summary(each)]
        return "".join(parts)


def price(
    model: str | Path,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    network: NetworkConfig | Network | None = None,
    *,
    policy: Policy = DEFAULT,
    cores: int = 0,
) -> Price:
    """What one run of a model costs: rounds, bytes, seconds, node by node. Nothing is shared or sent.

    model: an ONNX file, a folder of ONNX files that form one model, or a shared model. shapes: sizes of
    dimensions by name, or whole shapes by input; others are assumed. network: between the servers; by default
    the usual one. policy: the owner's, as for `share_model`. cores: of each server; 0: as many as this
    machine has.

    Nodes that cannot run are listed in `refused`, and the rest is priced without them. Raises ModelError for
    a file that cannot be read, ConfigError for a dimension that the model does not have.
    """
    known = network_of(network) if isinstance(network, NetworkConfig) else network or Network()
    given = dict(shapes or {})
    sizes = {name: size for name, size in given.items() if isinstance(size, int)}
    shared, _ = public_part(Path(model), policy, sizes)
    whole = {name: tuple(shape) for name, shape in given.items() if not isinstance(shape, int)}
    inputs = {name for blueprint in shared.graphs.values() for name in blueprint.inputs}
    unknown = [name for name in whole if name not in inputs]
    if unknown:
        raise ConfigError(f"the model has no input '{unknown[0]}'", f"it has {', '.join(sorted(inputs))}")
    for blueprint in shared.graphs.values():
        sizes |= sizes_of(blueprint, {name: s for name, s in whole.items() if name in blueprint.inputs})
    return priced(str(model), shared, sizes, known, cores, None)


def public_part(model: Path, policy: Policy, sizes: Mapping[str, int]) -> tuple[SharedModel, Sequence[str]]:
    """The public part of an ONNX file, of a folder of files that form one model, or of a shared model; and
    the files of the folder that do not belong to it. Raises ModelError, ConfigError."""
    if is_shared(model):
        if policy.patterns or policy.ranges or policy.rings or policy.ring != "auto":
            raise ConfigError(
                "a shared model's policy is settled: patterns and ranges have no effect",
                "pass them to `onnxpuma share`",
            )
        return SharedModel.read(model), ()
    found = find(model)
    blueprints = Reading(found.sources, policy, sizes=sizes).blueprints()
    if list(blueprints) == [ONLY_GRAPH]:
        return SharedModel.of(blueprints[ONLY_GRAPH]), found.ignored
    # `share` stores an array once that several graphs have; here each graph counts its own.
    own = {graph: {name: f"{graph}/{name}" for name in each.weights} for graph, each in blueprints.items()}
    return SharedModel(blueprints, own), found.ignored


def priced(
    model: str,
    shared: SharedModel,
    sizes: Mapping[str, int],
    network: Network,
    cores: int,
    place: Residence | None,
) -> Price:
    """A report for each graph, at those of the sizes that its symbols name. place: where weights stay; None:
    all of them as words."""
    known = {name: symbols(blueprint) for name, blueprint in shared.graphs.items()}
    reports, assumed = {}, dict[str, int]()
    for name, blueprint in shared.graphs.items():
        elsewhere = {symbol for other in known.values() for symbol in other} - known[name].keys()
        own = {symbol: size for symbol, size in sizes.items() if symbol not in elsewhere}
        shapes = fitting_shapes(blueprint, own)
        assumed |= {s: size for s, size in sizes_in(blueprint, shapes).items() if s not in sizes}
        drawn = draw_inputs(blueprint, shapes)
        public = {entry: drawn[entry] for entry in blueprint.public_inputs}
        held = None if place is None else place.memory
        away = [] if place is None else [w for w, a in shared.stored[name].items() if a in place.streamed]
        reports[name] = report(blueprint, shapes, public, network, cores, held, away)
    return Price(model, reports, assumed)
