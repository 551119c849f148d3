"""All three parties in this process, a thread each, over links in memory: a model runs in milliseconds.

This protects nothing, since the process sees every share. It serves tests, conformance and documentation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnxpuma.graph.model import Graph
from onnxpuma.interpreter import Interpreter, Watched
from onnxpuma.mpc.cost import USUAL, Cost, Network
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Sum3
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import local_keys
from onnxpuma.mpc.protocols.dpf import share_ids
from onnxpuma.mpc.ring.words import decode
from onnxpuma.mpc.sharing import held_by, opened, outgoing, share
from onnxpuma.observe import Progress, RunReport
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.range_reading import beyond_need
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.widths import check_rings, with_widths
from onnxpuma.plan.inputs.spec import LARGEST_INPUT
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.transport.memory import memory_links, side_by_side

ALL_BITS = Policy(ring=RESTING.bits)
Shares = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class MemoryRun:
    """The result of one run in memory."""

    outputs: dict[str, np.ndarray] = field(repr=False)  # by name
    cost: Cost  # as the links counted it
    plan: Plan = field(repr=False)
    reliable: bool = True  # every checked value stayed in its range


class MemoryModel:
    """A model, shared among three threads.

    Raises what `prepare_model` raises.
    """

    def __init__(
        self,
        model: ir.Model | onnx.ModelProto,
        policy: Policy = ALL_BITS,  # small graphs: no reading is lowered unless it is wished
        *,
        at_client: bool = True,  # False: compute on shares even where the client could compute alone
        rewrite: bool = True,  # False: keep the graph's nodes as they are
        network: Network = USUAL,  # for which it plans
        **wishes: Any,  # fields of `policy`, which they replace
    ) -> None:
        if isinstance(model, onnx.ModelProto):
            model = ir.serde.deserialize_model(model)
        policy = replace(policy, **wishes)
        blueprint, graph = prepare_model(model, policy, rewrite=rewrite)
        check_rings(policy, {"": blueprint})
        self.blueprint: Blueprint = with_widths(blueprint, policy)
        self._at_client, self._network = at_client, network
        self._interpreters = interpreters_of(self.blueprint, graph)

    def plan(self, feed: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> Plan:
        """The plan for inputs of these shapes; outputs: None means the model's own.

        Raises UnsupportedModelError, InputError.
        """
        shapes = {name: np.shape(value) for name, value in feed.items()}
        public = {name: np.asarray(feed[name]) for name in self.blueprint.public_inputs if name in feed}
        selection = None if outputs is None else Selection(tuple(outputs))
        blueprint = replace(self.blueprint, declared={**self.blueprint.declared, **_beyond(feed)})
        return compile_plan(
            blueprint, shapes, public, selection, at_client=self._at_client, network=self._network
        )

    def run(
        self, feed: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None, timeout: float = 120.0
    ) -> MemoryRun:
        """Plan, share, run in three threads and open the outputs (None: the model's own)."""
        specs = self.blueprint.inputs.items()
        feed = {**{name: s.default for name, s in specs if s.default is not None}, **feed}
        return run_plan(self.plan(feed, outputs), feed, self._interpreters, timeout)


def _beyond(feed: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Declared ranges for inputs that no client would share: they are accepted here, with no bound known."""
    numbers = {name: np.asarray(value) for name, value in feed.items()}
    real = {name: value for name, value in numbers.items() if value.dtype.kind in "fiu"}
    large = [name for name, value in real.items() if np.abs(value).max(initial=0) > LARGEST_INPUT]
    return {name: [-math.inf, math.inf] for name in large}


def run_plan(
    plan: Plan,
    feed: Mapping[str, np.ndarray],
    interpreters: Sequence[Interpreter],
    timeout: float = 120.0,
    watched: Sequence[Watched | None] = (None, None, None),
    progress: Progress | None = None,
) -> MemoryRun:
    """Share the plan's inputs, run it in three threads and open its outputs. watched: for each party, as
    `Interpreter.run` takes it."""
    known = plan.client_values(feed)
    inputs = _inputs(plan, known)
    links, keys = memory_links(timeout=timeout), local_keys()
    session = os.urandom(16)
    parties = [Party(links[i], keys[i], session) for i in range(3)]
    results: list[dict[str, Sum3]] = [{}, {}, {}]
    reports = [RunReport(), RunReport(), RunReport()]

    def work(index: int) -> None:
        party, told = parties[index], progress if index == 0 else None
        shares, reports[index] = interpreters[index].run(plan, party, inputs[index], told, watched[index])
        results[index] = {o.name: outgoing(party, shares[o.name], o.format) for o in plan.opened}

    side_by_side(links, session, work)
    found = {}
    for output in plan.outputs:
        if output.secret:
            value = results[0][output.name]
            words = opened([r[output.name].words for r in results], value.bits)
            found[output.name] = output.completed(decode(words, value.fraction, value.bits))
        else:
            found[output.name] = np.asarray(known[output.name])
    apart = None if plan.verdict is None else found.pop(plan.verdict.name)
    reliable = all_within(plan, known) and (apart is None or not apart.any())
    sent = sum(link.traffic.payload_sent for link in links)
    return MemoryRun(found, Cost(max(report.rounds for report in reports), 8 * sent), plan, reliable)


def all_within(plan: Plan, known: Mapping[str, np.ndarray]) -> bool:
    """Whether the inputs meet the needs of the plan's steps and are small enough for a client to share."""
    largest = Need(0, "element", LARGEST_INPUT * (1 + 2.0**-20))
    reals = [entry for entry in plan.inputs if entry.dtype.kind == "f" and not entry.depth]
    pairs = [(known[entry.name], need) for entry in reals for need in entry.needs]
    pairs += [(known[entry.name], largest) for entry in reals if not entry.reach]
    return all(beyond_need(values, need) is None for values, need in pairs)


def interpreters_of(blueprint: Blueprint, graph: Graph) -> list[Interpreter]:
    """The three parties' interpreters, with fresh shares of the weights; 24 bytes a weight for all three."""
    return [Interpreter(weights) for weights in _weights(blueprint, graph)]


def _weights(blueprint: Blueprint, graph: Graph) -> Shares:
    held: Shares = ({}, {}, {})
    for name in blueprint.weights:
        values = graph.initializers[name].numpy()
        _deal(held, name, values, blueprint.format(name))
    return held


def _inputs(plan: Plan, known: Mapping[str, np.ndarray]) -> Shares:
    held: Shares = ({}, {}, {})
    for wanted in plan.inputs:
        if wanted.depth:
            for party, part in enumerate(share_ids(known[wanted.name], wanted.depth)):
                held[party][wanted.operand] = part
        else:
            _deal(held, wanted.name, wanted.saturated(known[wanted.name]), wanted.format)
    return held


def _deal(held: Shares, name: str, values: np.ndarray, format: Format) -> None:
    components = share(format.encode(values), format.bits)
    for party in range(3):
        form: Form = held_by(party, components, format)
        held[party][name] = form
