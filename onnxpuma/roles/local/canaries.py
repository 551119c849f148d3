"""Canaries, made by the model's owner: inputs, and the outputs of honest servers, computed in memory.

Two honest runs differ in their last bits, since truncation rounds by random masks. So each input runs several
times, and the widest difference, with a margin, is what a client tolerates.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.examine.example import choose_shapes, draw_inputs
from onnxpuma.plan.plan import Selection
from onnxpuma.roles.local.memory import run_plan
from onnxpuma.roles.request.canary_file import Arrays, Canaries, Canary
from onnxpuma.roles.request.commitment import check_auditable
from onnxpuma.roles.request.feed import check_feed, check_outputs
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import load_weights
from onnxpuma.transport.link import PARTIES

RUNS = 3  # of each canary
MARGIN = 8.0  # tolerance: so many times the widest difference that was seen
LEAST = 2.0**-15  # tolerance: some units of the last place at least
TRIALS = 4  # drawn inputs for each canary, where runs disagree about an id


def make_canaries(
    folder: Path,  # of the shared model, with the keys of all three parties and the words
    count: int,
    *,
    feeds: Iterable[Mapping[str, Any]] | None = None,  # in place of drawn inputs; at least `count`
    sizes: Mapping[str, int] | None = None,  # of dimensions by name, for drawn inputs
    graph: str | None = None,  # required if the model has several
    output_names: Sequence[str] | None = None,  # None: the model's own
    network: Network = USUAL,  # for which its servers plan
    progress: Callable[[int, int, str], None] | None = None,
) -> Canaries:
    """`count` canaries of one graph.

    Raises InputError for a model that allows no audits, for inputs that do not fit or leave a range, and
    where honest runs disagree about outputs that are no reals; ConfigError for sizes that do not fit;
    PlanError for a damaged folder. Cost: RUNS runs of three parties a canary; memory: 48 bytes a weight.
    """
    model = SharedModel.read(folder)
    blueprint = model.graph(graph)
    check_auditable(blueprint)
    name = next(name for name, each in model.graphs.items() if each is blueprint)
    opened, _ = check_outputs(blueprint, output_names)
    given = _drawn(blueprint, sizes or {}) if feeds is None else iter(feeds)
    left = count * TRIALS if feeds is None else None
    weights = [load_weights(folder, party, model)[name] for party in range(PARTIES)]
    interpreters, plans = [Interpreter(each) for each in weights], Plans(blueprint, network)
    made, apart = list[Canary](), dict[str, float]()
    for feed in given:
        if progress is not None:
            progress(len(made), count, "")
        canary = _canary(plans, interpreters, feed, opened, apart)
        if canary is not None:
            made.append(canary)
        elif left is None:
            raise InputError(
                f"honest runs disagree about the answer to input {len(made)}: two ids are as likely",
                "leave that input out",
            )
        left = None if left is None else left - 1
        if len(made) == count:
            return Canaries(blueprint.digest, {n: max(MARGIN * x, LEAST) for n, x in apart.items()}, made)
        if left == 0:
            break
    raise InputError(
        f"only {len(made)} of {count} canaries could be made",
        "give more inputs, or others: honest runs must agree about their answers",
    )


def _canary(
    plans: Plans,
    interpreters: Sequence[Interpreter],
    feed: Mapping[str, Any],
    opened: tuple[str, ...],
    apart: dict[str, float],  # the widest difference so far, by output of reals
) -> Canary | None:
    """The canary with this input; None where honest runs disagree about an output that is no real."""
    fed: dict[str, np.ndarray] = {}
    for name, value in check_feed(plans.blueprint, feed).items():
        if isinstance(value, Kept):
            raise InputError(f"'{name}' is a value that servers keep", "give arrays")
        fed[name] = value
    shapes = {name: value.shape for name, value in fed.items()}
    public = {name: fed[name] for name in plans.blueprint.public_inputs}
    plan = plans.get(shapes, public, Selection(opened))
    found: list[Arrays] = []
    for _ in range(RUNS):
        run = run_plan(plan, fed, interpreters)
        if not run.reliable:
            raise InputError(
                "an input leaves the range in which answers are reliable",
                "give inputs like those of clients (--inputs), or calibrate the model when sharing it",
            )
        found.append(run.outputs)
    for name, one in found[0].items():
        for other in (each[name] for each in found[1:]):
            if one.dtype.kind != "f":
                if not np.array_equal(one, other):
                    return None
                continue
            difference = np.abs(np.asarray(one, np.float64) - other)
            apart[name] = max(apart.get(name, 0.0), float(np.max(difference, initial=0.0)))
    return Canary(fed, found[0])


def _drawn(blueprint: Blueprint, sizes: Mapping[str, int]) -> Iterator[dict[str, np.ndarray]]:
    shapes = choose_shapes(blueprint, sizes)
    while True:
        yield draw_inputs(blueprint, shapes, secrets.randbits(64))
