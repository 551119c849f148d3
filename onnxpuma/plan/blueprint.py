"""The public part of a shared model: what three servers and every client hold.

A blueprint is the canonical graph without its weights (the skeleton), who may see what, and a digest over
both. The weights go to the servers as shares; the blueprint says nothing about them but their shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma import __version__
from onnxpuma.errors import ConfigError, OnnxpumaError, PlanError
from onnxpuma.graph.bind import free
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.constants import lift_constants
from onnxpuma.graph.folder import Source
from onnxpuma.graph.hidden import hide_outputs
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.next_token import NEXT_TOKEN, SUPPRESSED, add_next_token, remove_input
from onnxpuma.graph.rules.weight_only import marked
from onnxpuma.graph.save import load_skeleton, skeleton_bytes
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.registry import resting_of
from onnxpuma.plan.draft import write_files
from onnxpuma.plan.inputs.closed import closed_outputs, resuming
from onnxpuma.plan.inputs.roles import open_inputs, specs_of, tables
from onnxpuma.plan.inputs.spec import InputSpec
from onnxpuma.plan.narrow import check_resting
from onnxpuma.plan.owner_policy import DEFAULT, Policy
from onnxpuma.plan.policy import COPY_AGAIN, check_fits, digest_of, read_policy, written
from onnxpuma.plan.weights.constants import Constants
from onnxpuma.plan.weights.facts import Facts, bound_of
from onnxpuma.plan.weights.fillers import with_fillers
from onnxpuma.plan.weights.listing import PublicEntry, listing
from onnxpuma.plan.weights.measure import facts_of
from onnxpuma.plan.weights.scaling import fractions_of

SKELETON = "skeleton.onnx"
POLICY = "policy.json"


@dataclass(frozen=True)
class Blueprint:
    """The canonical graph, visibility and digest of a model.

    vocabulary: how many ids it generates; it then has the derived output `next_token` and the derived input
    `suppressed_ids` (graph/next_token.py). hidden: outputs of the model that its owner kept back. closed:
    outputs that clients may have kept at the servers, to go on from, and not opened. resumed: the inputs that
    go on from them, and from which (plan/inputs/closed.py). ranges: what its owner's calibration found
    (plan/examine/calibrate.py): node -> quantity -> power of two it stays below. fractions: the fraction bits
    of weights that have more than others (plan/weights/scaling.py). checked: every run tells its client
    whether a value left its range (plan/bounds/checks.py). facts: of its weights, for the bounds of what is
    made of them (plan/weights/facts.py). declared: what clients keep an input within. resting: the format of
    every secret real between two steps; integers rest in the same ring. doubtful: public constants that may
    be trained, which the owner has to be asked about before anybody else sees them; known where the model was
    prepared, and not part of what is shared.
    """

    graph: Graph
    skeleton: bytes = field(repr=False)
    visibility: dict[str, str] = field(repr=False)  # initializer -> "secret" | "public"
    reasons: dict[str, str] = field(repr=False)
    public_inputs: tuple[str, ...]
    recognised: dict[str, int] = field(repr=False)
    vocabulary: int | None = None
    hidden: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    ranges: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    resumed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fractions: dict[str, int] = field(default_factory=dict, repr=False)
    checked: bool = True
    facts: Facts = field(default_factory=dict, repr=False)
    declared: dict[str, list[float]] = field(default_factory=dict)
    resting: Format = RESTING
    doubtful: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """What servers and clients compare before anything runs: graph, policy, version, twin tables."""
        return digest_of(self.skeleton, self._policy)

    def bounds(self, node: str) -> dict[str, float]:
        """What the quantities of a node stay below, by `Limit.key`: those that calibration has found."""
        return {key: 2.0**exponent for key, exponent in self.ranges.get(node, {}).items()}

    @cached_property
    def known_bounds(self) -> dict[str, Bound]:
        return {name: bound_of(found) for name, found in self.facts.items()}

    def format(self, weight: str) -> Format:
        """The format of a secret initializer's words."""
        resting = resting_of(self.graph.initializers[weight].dtype, self.resting)
        return resting.at(self.fractions.get(weight, resting.fraction))

    @property
    def weights(self) -> list[str]:
        """Names of the secret initializers, in the graph's order."""
        return [name for name, seen in self.visibility.items() if seen == "secret"]

    def public_listing(self) -> list[PublicEntry]:
        """What is public and its owner is to look at (plan/weights/listing.py)."""
        return listing(self.graph, self.visibility, self.reasons, self.doubtful)

    @cached_property
    def inputs(self) -> dict[str, InputSpec]:
        found = specs_of(self.graph, self.public_inputs, self.resumed, self.declared, self.facts)
        for name in self.derived_inputs:
            nothing = np.zeros(0, found[name].dtype)
            found[name] = replace(found[name], vocabulary=self.vocabulary, default=nothing)
        return found

    @property
    def derived_inputs(self) -> tuple[str, ...]:
        """Inputs that the exported model does not have; each has a default."""
        return (SUPPRESSED,) if self.vocabulary else ()

    @property
    def derived_outputs(self) -> tuple[str, ...]:
        """Outputs that the exported model does not have."""
        return (NEXT_TOKEN,) if self.vocabulary else ()

    @property
    def _derived(self) -> dict[str, Any]:
        return {
            "inputs": list(self.derived_inputs),
            "outputs": list(self.derived_outputs),
            "vocabulary": self.vocabulary,
            "hidden": list(self.hidden),
            "closed": list(self.closed),
            "resumed": {name: list(sources) for name, sources in self.resumed.items()},
        }

    @property
    def outputs(self) -> dict[str, Any]:
        return self.graph.outputs

    @property
    def own_outputs(self) -> list[str]:
        """The outputs to open that the model was exported with; where there are none, the derived ones."""
        shown = [name for name in self.graph.outputs if name not in self.closed]
        return [name for name in shown if name not in self.derived_outputs] or shown

    @property
    def _policy(self) -> dict[str, Any]:
        return {
            "public_inputs": list(self.public_inputs),
            "visibility": self.visibility,
            "reasons": self.reasons,
            "recognised": self.recognised,
            "derived": self._derived,
            "ranges": self.ranges,
            "fractions": self.fractions,
            "facts": self.facts,
            "declared": self.declared,
            "checked": self.checked,
            "resting": list(self.resting),
        }

    def files(self) -> dict[str, bytes]:
        """The public files of the graph, skeleton.onnx and policy.json: name -> content."""
        content = written({"version": __version__, "digest": self.digest, **self._policy})
        return {SKELETON: self.skeleton, POLICY: content}

    def save(self, folder: Path) -> None:
        """Write the public files, whole, in place of those that are there."""
        write_files(folder, self.files())

    @classmethod
    def read(cls, folder: Path) -> Blueprint:
        """Read the files of `folder`. PlanError when they are incomplete, damaged, or of another version."""
        try:
            skeleton, policy = ((folder / name).read_bytes() for name in (SKELETON, POLICY))
        except OSError as error:
            raise PlanError(
                f"{folder} is not a shared model: {error}", "give the folder that `onnxpuma share` wrote"
            ) from error
        return cls.parse(skeleton, policy, str(folder))

    @classmethod
    def parse(cls, skeleton: bytes, content: bytes, where: str) -> Blueprint:
        """Read what `files` made; `where` it is from is for the messages. Raises as `read`.

        The graph is read when the digest is right: damage is seen before onnx sees it.
        """
        policy = read_policy(content, where)
        damaged = PlanError(f"the plan in {where} does not match its digest", f"it is damaged: {COPY_AGAIN}")
        if content != written(policy) or policy["digest"] != digest_of(skeleton, policy):
            raise damaged
        try:
            graph = load_skeleton(skeleton)
            check_fits(policy, graph, where)
            tables(graph)
        except OnnxpumaError as error:
            raise PlanError(f"{where}: {error.message}", COPY_AGAIN) from error
        except Exception as error:  # of many kinds: the graph was not written by this package
            raise PlanError(f"the skeleton in {where} cannot be read: {error}", COPY_AGAIN) from error
        derived = policy["derived"]
        made = cls(
            graph,
            skeleton,
            policy["visibility"],
            policy["reasons"],
            tuple(policy["public_inputs"]),
            policy["recognised"],
            derived["vocabulary"],
            tuple(derived["hidden"]),
            tuple(derived["closed"]),
            policy["ranges"],
            {name: tuple(sources) for name, sources in derived["resumed"].items()},
            resting=Format(*policy["resting"]),
            **{key: policy[key] for key in ("fractions", "checked", "facts", "declared")},
        )
        if made.digest != policy["digest"]:  # it says more, or other, than what was taken from it
            raise damaged
        return made


def prepare(
    path: str | Path | Source, policy: Policy = DEFAULT, unmatched: set[str] | None = None
) -> tuple[Blueprint, Graph]:
    """Read, check and canonicalise a model: its blueprint, and the graph that still has the weights.

    A model that generates gets the output `next_token`. Raises ModelError for a file that is not a model,
    ConfigError for a pattern that matches nothing; `unmatched`, where it is given, collects such patterns
    instead, since they may match in another graph of the model.
    """
    model = path.load() if isinstance(path, Source) else load(path)
    return prepare_model(model, policy, unmatched=unmatched)


def prepare_model(
    model: ir.Model, policy: Policy = DEFAULT, *, rewrite: bool = True, unmatched: set[str] | None = None
) -> tuple[Blueprint, Graph]:
    """`prepare` of a model in memory, which is changed. rewrite=False takes the graph as it stands, without
    `next_token`."""
    check_resting(policy.resting)
    free(model, {*policy.public_inputs, *policy.secret_inputs})
    constants = Constants(model, policy.public, policy.secret)
    rules = canonicalise(model, constants.weights).rules if rewrite else {}
    if not rewrite:
        lift_constants(model)
    vocabulary = add_next_token(model) if rewrite else None
    hidden = hide_outputs(model, policy.hide, unmatched)
    if vocabulary and NEXT_TOKEN in hidden:
        remove_input(model)
        vocabulary = None
    graph = to_graph(model)
    seen = constants.classified(graph, marked(model), unmatched)
    shown = open_inputs(graph, policy.public_inputs, policy.secret_inputs, unmatched)
    closed = closed_outputs(graph, shown, policy.keep_only, unmatched)
    if len(closed) == len(graph.outputs) and unmatched is None:  # of several graphs one may hand on all
        raise ConfigError("no output could be opened", "leave the clients one: next_token, say")
    if vocabulary and SUPPRESSED not in shown:
        shown.append(SUPPRESSED)
    visibility = {name: str(found.visibility) for name, found in seen.items()}
    secrets = [name for name, found in seen.items() if found.secret]
    graph, skeleton = with_fillers(graph, secrets), skeleton_bytes(graph, secrets)
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
        checked=policy.range_check,
        fractions=fractions_of(graph, secrets, shown) if policy.resting == RESTING else {},
        facts=facts_of(graph, secrets, shown),
        resting=policy.resting,
        doubtful=constants.doubtful(graph, seen),
    )
    return resuming({"": blueprint}, policy.keep_only)[""], graph
