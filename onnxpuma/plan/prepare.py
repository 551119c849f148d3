"""Preparing a model: from its file to the blueprint, and the graph that still has the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from onnxpuma.errors import ConfigError
from onnxpuma.graph.bind import free
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.constants import lift_constants
from onnxpuma.graph.folder import Source
from onnxpuma.graph.hidden import hide_outputs
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.next_token import NEXT_TOKEN, NEXT_TOKENS, SUPPRESSED, add_next_token, remove_inputs
from onnxpuma.graph.rules.weight_only import marked
from onnxpuma.graph.sampling import DRAWN, PARAMETERS_INPUT, input_ranges
from onnxpuma.graph.save import load_skeleton, skeleton_bytes
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.closed import closed_outputs, resumed_inputs, shared_inputs
from onnxpuma.plan.inputs.roles import open_inputs
from onnxpuma.plan.narrow import check_resting, is_narrow
from onnxpuma.plan.noise.noised import Noised, check_noise, with_noise
from onnxpuma.plan.owner_policy import DEFAULT, Policy
from onnxpuma.plan.weights.constants import Constants
from onnxpuma.plan.weights.fillers import with_fillers
from onnxpuma.plan.weights.measure import measure
from onnxpuma.plan.weights.scaling import fractions_of


def prepare(
    path: str | Path | Source, policy: Policy = DEFAULT, unmatched: set[str] | None = None
) -> tuple[Blueprint, Graph]:
    """Read, check and canonicalise a model: its blueprint, and the graph that still has the weights.

    A model that generates gets the outputs of graph/next_token.py. Raises ModelError for a file that is not a
    model, ConfigError for a pattern that matches nothing; `unmatched`, where it is given, collects such
    patterns instead, since they may match in another graph of the model.
    """
    model = path.load() if isinstance(path, Source) else load(path)
    return prepare_model(model, policy, unmatched=unmatched)


def prepare_model(
    model: ir.Model, policy: Policy = DEFAULT, *, rewrite: bool = True, unmatched: set[str] | None = None
) -> tuple[Blueprint, Graph]:
    """`prepare` for a model in memory, which is modified. rewrite=False leaves its graph unchanged, without
    derived outputs.
    """
    check_resting(policy.resting)
    free(model, {*policy.public_inputs, *policy.secret_inputs})
    constants = Constants(model, policy.public, policy.secret)
    rules = canonicalise(model, constants.weights).rules if rewrite else {}
    if not rewrite:
        lift_constants(model)
    vocabulary = add_next_token(model) if rewrite else None
    noised = with_noise(model, policy.noise)
    hidden = hide_outputs(model, policy.hide, unmatched)
    if vocabulary and NEXT_TOKEN in hidden:
        # the others have the same id among others, or for a temperature of zero
        hidden += hide_outputs(model, [name for name in (NEXT_TOKENS, *DRAWN) if name not in hidden])
    if vocabulary:
        remove_inputs(model, vocabulary)
    if NEXT_TOKEN in hidden:
        vocabulary = None
    graph = to_graph(model)
    seen = constants.classified(graph, marked(model), unmatched)
    shown = open_inputs(graph, policy.public_inputs, policy.secret_inputs, unmatched)
    closed = closed_outputs(graph, shown, policy.keep_only, unmatched)
    _check_alone(noised, policy, closed, unmatched)
    if len(closed) == len(graph.outputs) and unmatched is None:  # one of several graphs may keep all of them
        raise ConfigError("no output could be opened", "leave the clients one: next_token, say")
    if vocabulary:
        shown += [n for n in (SUPPRESSED, PARAMETERS_INPUT) if n in graph.inputs and n not in shown]
    visibility = {name: str(found.visibility) for name, found in seen.items()}
    secrets = [name for name, found in seen.items() if found.secret]
    check_noise(graph, secrets, noised)
    graph, skeleton = with_fillers(graph, secrets), skeleton_bytes(graph, secrets)
    measured = measure(graph, secrets, shown)
    blueprint = Blueprint(
        load_skeleton(skeleton),
        skeleton,
        visibility,
        {name: found.reason for name, found in seen.items()},
        tuple(shown),
        rules,
        vocabulary,
        tuple(hidden),
        tuple(closed),
        checked=policy.range_check and noised is None,
        fractions={} if is_narrow(policy.resting) else fractions_of(graph, secrets, shown, measured.sizes),
        facts=measured.facts,
        resting=policy.resting,
        declared={name: ends for name, ends in input_ranges().items() if vocabulary and name in graph.inputs},
        doubtful=constants.doubtful(graph, seen),
        noised=noised,
        owner_key=policy.owner_key,
    )
    return resuming({"": blueprint}, policy.keep_only)[""], graph


def _check_alone(
    noised: Noised | None, policy: Policy, closed: Sequence[str], unmatched: set[str] | None
) -> None:
    """ConfigError where noise does not go together with the rest of a policy, or with several graphs."""
    if noised is None:
        return
    if closed or policy.keep_only:
        raise ConfigError(
            "values that servers keep for later requests have no noise",
            "omit --keep-only, or noise: a model with noise on its outputs keeps nothing",
        )
    if unmatched is not None:
        raise ConfigError(
            "noise is for a model of one graph", "export one graph that computes the scores from the inputs"
        )
    if is_narrow(policy.resting):
        raise ConfigError("noise needs values of 64 bits", "let values rest in 64 bits")


def resuming(graphs: Mapping[str, Blueprint], keep_only: Sequence[str]) -> dict[str, Blueprint]:
    """The graphs of a model, by name, each with the closed outputs of any graph that its inputs continue."""
    closed = [(name, graph.outputs[name]) for graph in graphs.values() for name in graph.closed]
    states = {o for name, graph in graphs.items() if name.startswith("encoder") for o in graph.closed}

    def resumed(graph: Blueprint) -> dict[str, tuple[str, ...]]:
        return resumed_inputs(shared_inputs(graph.graph, graph.public_inputs), closed, keep_only, states)

    return {name: replace(graph, resumed=resumed(graph)) for name, graph in graphs.items()}
