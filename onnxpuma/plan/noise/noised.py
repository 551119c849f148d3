"""What policy.json records of noise on outputs, and how it follows from the owner's wish and the graph."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Graph
from onnxpuma.graph.noising import NoiseNode, add_noise, is_noise, noise_nodes, row_size, unprotected
from onnxpuma.graph.patterns import matching
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.noise import GAUSSIAN, KINDS
from onnxpuma.plan.noise.loss import LARGEST_SCALE, LEAST_SCALE, epsilon_of, length, loss, rho_of, scale_for
from onnxpuma.plan.noise.wish import USUAL_DELTA, OutputNoise

_UP = 1 + 2.0**-40


@dataclass(frozen=True)
class NoisyOutput:
    """The noise on one output, in units of its grid."""

    scale: int  # of what each server draws
    distance: int  # the sensitivity, errors of computing included
    size: int  # elements of an answer
    unit: float  # what one unit of the grid stands for


@dataclass(frozen=True)
class Noised:
    """The noise on a model's outputs, and how many answers its owner allows."""

    kind: str
    outputs: Mapping[str, NoisyOutput]
    answers: int  # for each client, or for all of them
    together: bool
    delta: float  # at which `epsilon` is stated; 0 for Laplace

    @property
    def loss(self) -> float:
        """Of one answer: rho (zero-concentrated differential privacy) for a Gaussian, epsilon for Laplace."""
        return sum(loss(self.kind, o.scale, o.distance, o.size) for o in self.outputs.values())

    def epsilon(self, answers: int) -> float:
        """Of so many answers, at `delta`. BuildError where OpenDP is missing."""
        total = answers * self.loss
        return epsilon_of(total, self.delta) if self.kind == GAUSSIAN else total

    def deviation(self, output: str) -> float:
        """The standard deviation of the noise that a client sees in one score, that of all three servers."""
        found = self.outputs[output]
        variance = found.scale**2 * (3 if self.kind == GAUSSIAN else 6)
        return math.sqrt(variance) * found.unit

    def entries(self) -> dict[str, Any]:
        """For policy.json."""
        return asdict(self)

    @classmethod
    def read(cls, entries: Any) -> Noised | None:
        """What `entries` wrote; None stands for no noise. ValueError or TypeError for anything else."""
        if entries is None:
            return None
        outputs = {str(name): NoisyOutput(**entry) for name, entry in entries["outputs"].items()}
        made = cls(**{**entries, "outputs": outputs})
        whole = [made.answers, *(n for o in outputs.values() for n in (o.scale, o.distance, o.size))]
        holds = (
            made.kind in KINDS
            and all(type(n) is int and n > 0 for n in whole)
            and all(LEAST_SCALE <= o.scale <= 2 * LARGEST_SCALE for o in outputs.values())
            and all(o.unit in (1.0, RESTING.unit) for o in outputs.values())
            and isinstance(made.together, bool)
            and isinstance(made.delta, float)
            and (0 < made.delta < 1 if made.kind == GAUSSIAN else made.delta == 0)
            and outputs
        )
        if not holds:
            raise ValueError("an entry about noise is of no use")
        return made

    def fits(self, graph: Graph, secret: Collection[str]) -> bool:
        """Whether the nodes of this graph add exactly this noise, and no output avoids it."""
        nodes = {name: (node.kind, node.scale) for name, node in noise_nodes(graph).items()}
        return nodes == {n: (self.kind, o.scale) for n, o in self.outputs.items()} and not any(
            unprotected(graph, secret)
        )


def with_noise(model: ir.Model, wish: OutputNoise | None) -> Noised | None:
    """Add the nodes that a wish asks for, in place.

    Each of several outputs gets an equal part of the loss of one answer. Raises ConfigError for a pattern
    that matches no output, for an output that can have no noise, and for noise that no word can hold.
    """
    if wish is None:
        return None
    values = {str(value.name): value for value in model.graph.outputs}
    names = matching("output", list(values), wish.outputs)
    if not names:
        raise ConfigError("noise was asked for on no output", f"the outputs are {', '.join(values)}")
    allowed, delta = wish.rho, wish.delta or (USUAL_DELTA if wish.gaussian else 0.0)
    if allowed is None:
        assert wish.epsilon is not None
        allowed = rho_of(wish.epsilon, delta) if wish.gaussian else wish.epsilon
    outputs, nodes = {}, {}
    for name in names:
        kind, size = row_size(values[name])
        unit = RESTING.unit if kind.kind == "f" else 1.0
        ends = None if wish.clip is None else _ends(wish.clip, unit)
        distance = _distance(wish, size, unit, ends)
        scale = scale_for(wish.kind, allowed / len(names), distance, size)
        outputs[name] = NoisyOutput(scale, distance, size, unit)
        nodes[name] = NoiseNode(wish.kind, scale, *(ends or (None, None)))
    add_noise(model, nodes, wish.label)
    return Noised(wish.kind, outputs, wish.answers, wish.together, delta)


def _ends(clip: tuple[float, float], unit: float) -> tuple[int, int]:
    """A range in units of the grid."""
    low, high = (round(end / unit) for end in clip)
    if low >= high:
        raise ConfigError(f"nothing lies between {clip[0]} and {clip[1]}", "clip to a larger range")
    return low, high


def _distance(wish: OutputNoise, size: int, unit: float, ends: tuple[int, int] | None) -> int:
    """The largest distance of two neighbouring answers, in units of the grid: as stated, with room for the
    errors of both runs; and never more than the range allows."""
    across = length(wish.kind, size)
    found = []
    if wish.sensitivity is not None:
        error = wish.error if unit < 1 else 0.0
        found.append((wish.sensitivity + 2 * error * across) / unit)
    if ends is not None:
        found.append((ends[1] - ends[0]) * across)
    return math.ceil(min(found) * _UP)


def check_noise(graph: Graph, secret: Collection[str], noised: Noised | None) -> None:
    """ConfigError where an output would leave without noise, or noise would protect nothing."""
    if noised is None:
        if any(is_noise(node) for node in graph.nodes):
            raise ConfigError(
                "the file has nodes that add noise, and nobody accounts for them",
                "share the model that was exported; noise is added by --noise",
            )
        return
    lost = sorted(noised.outputs.keys() - noise_nodes(graph).keys())
    if lost:
        raise ConfigError(
            f"{lost[0]} is hidden, and no other output follows from it", "add noise to what clients get"
        )
    bare, idle = unprotected(graph, secret)
    if bare:
        hidden = " ".join(f"--hide '{name}'" for name in bare)
        raise ConfigError(
            f"{', '.join(bare)} would leave without noise, and follow{'s' * (len(bare) == 1)} from secret"
            " weights",
            f"hide what clients do not need ({hidden}), or add noise to it as well",
        )
    if idle:
        raise ConfigError(
            f"{', '.join(idle)} follow{'s' * (len(idle) == 1)} from no secret weight: noise protects nothing",
            "name outputs that the weights decide",
        )
