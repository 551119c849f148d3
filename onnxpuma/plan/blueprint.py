"""The public part of a shared model: what three servers and every client hold.

A blueprint is the canonical graph without its weights (the skeleton), who may see what, and a digest over
both. The weights go to the servers as shares; the blueprint says nothing about them but their shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma import __version__
from onnxpuma.errors import ConfigError, PlanError
from onnxpuma.graph.bind import free
from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.folder import Source
from onnxpuma.graph.hidden import hide_outputs
from onnxpuma.graph.load import load
from onnxpuma.graph.model import Graph, to_graph
from onnxpuma.graph.next_token import OUTPUT, SUPPRESSED, add_next_token, remove_input
from onnxpuma.graph.patterns import matching
from onnxpuma.graph.save import load_skeleton, skeleton_bytes
from onnxpuma.graph.visibility import classify
from onnxpuma.mpc.separable import fingerprint
from onnxpuma.plan.inputs import open_inputs, tables

SKELETON = "skeleton.onnx"
POLICY = "policy.json"


@dataclass(frozen=True)
class InputSpec:
    """One input of the model. `shape` holds ints and symbols; `vocabulary`: rows of its table of ids.

    default: what it holds where a feed leaves it out; None where it may not.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    secret: bool
    vocabulary: int | None = None
    default: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Blueprint:
    """The canonical graph, visibility and digest of a model.

    vocabulary: how many ids it generates; it then has the derived output `next_token` and the derived input
    `suppressed_ids` (graph/next_token.py). hidden: outputs of the model that its owner kept back. closed:
    outputs that clients may have kept at the servers, to go on from, and not opened. ranges:
    what its owner's calibration found (plan/calibrate.py): node -> quantity -> power of two it stays below.
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

    @cached_property
    def digest(self) -> str:
        """What servers and clients compare before anything runs: graph, policy, version, twin tables."""
        policy = json.dumps(
            [
                self.visibility,
                sorted(self.public_inputs),
                __version__,
                fingerprint(),
                self._derived,
                self.ranges,
            ],
            sort_keys=True,
        )
        return hashlib.sha256(self.skeleton + policy.encode()).hexdigest()

    def bounds(self, node: str) -> dict[str, float]:
        """What the quantities of a node stay below, by `Limit.key`: those that calibration has found."""
        return {key: 2.0**exponent for key, exponent in self.ranges.get(node, {}).items()}

    @property
    def weights(self) -> list[str]:
        """Names of the secret initializers, in the graph's order."""
        return [name for name, seen in self.visibility.items() if seen == "secret"]

    @cached_property
    def inputs(self) -> dict[str, InputSpec]:
        rows = tables(self.graph)
        found = {
            name: InputSpec(
                name,
                kind.dtype,
                kind.shape if kind.shape is not None else (),
                name not in self.public_inputs,
                rows.get(name),
            )
            for name, kind in self.graph.inputs.items()
        }
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
        return (OUTPUT,) if self.vocabulary else ()

    @property
    def _derived(self) -> dict[str, Any]:
        return {
            "inputs": list(self.derived_inputs),
            "outputs": list(self.derived_outputs),
            "vocabulary": self.vocabulary,
            "hidden": list(self.hidden),
            "closed": list(self.closed),
        }

    @property
    def outputs(self) -> dict[str, Any]:
        return self.graph.outputs

    @property
    def own_outputs(self) -> list[str]:
        """The outputs to open that the model was exported with; where there are none, the derived ones."""
        shown = [name for name in self.graph.outputs if name not in self.closed]
        return [name for name in shown if name not in self.derived_outputs] or shown

    def save(self, folder: Path) -> None:
        """Write skeleton.onnx and policy.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SKELETON).write_bytes(self.skeleton)
        policy = {
            "version": __version__,
            "digest": self.digest,
            "public_inputs": list(self.public_inputs),
            "visibility": self.visibility,
            "reasons": self.reasons,
            "recognised": self.recognised,
            "derived": self._derived,
            "ranges": self.ranges,
        }
        (folder / POLICY).write_text(json.dumps(policy, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Blueprint:
        """Read what `save` wrote. PlanError when it is incomplete, damaged, or of another version."""
        try:
            skeleton = (folder / SKELETON).read_bytes()
            policy = json.loads((folder / POLICY).read_text())
        except OSError as error:
            raise PlanError(
                f"{folder} is not a shared model: {error}", "give the folder that `onnxpuma share` wrote"
            ) from error
        except ValueError as error:
            raise PlanError(
                f"{folder / POLICY} is damaged: {error}", "copy the folder again from the model's owner"
            ) from error
        if policy.get("version") != __version__:
            raise PlanError(
                f"{folder} was shared with onnxpuma {policy.get('version')}, this is {__version__}",
                "install the same version everywhere, or share the model again",
            )
        made = cls(
            load_skeleton(skeleton),
            skeleton,
            policy["visibility"],
            policy["reasons"],
            tuple(policy["public_inputs"]),
            policy["recognised"],
            policy["derived"]["vocabulary"],
            tuple(policy["derived"]["hidden"]),
            tuple(policy["derived"]["closed"]),
            policy["ranges"],
        )
        if made.digest != policy.get("digest"):
            raise PlanError(
                f"the plan in {folder} does not match its digest",
                "it is damaged: copy it again from the owner of the model",
            )
        return made


def prepare(
    path: str | Path | Source,
    unmatched: set[str] | None = None,
    /,
    *,
    public: Sequence[str] = (),
    secret: Sequence[str] = (),
    public_inputs: Sequence[str] = (),
    secret_inputs: Sequence[str] = (),
    hide: Sequence[str] = (),
    keep_only: Sequence[str] = (),
) -> tuple[Blueprint, Graph]:
    """Read, check and canonicalise a model: its blueprint, and the graph that still has the weights.

    public, secret: patterns on initializer names; public_inputs, secret_inputs: patterns on input names;
    one that is the name of a weight which the file lists among its inputs makes it an input;
    hide: patterns on outputs that nobody is to have; keep_only: on those that are not to be opened. A model
    that generates gets the output `next_token`.
    Raises ModelError for a file that is not a model, ConfigError for a pattern that matches nothing; where
    `unmatched` is given the patterns go there instead, as another graph of the model may have what they mean.
    """
    return prepare_model(
        path.load() if isinstance(path, Source) else load(path),
        public=public,
        secret=secret,
        public_inputs=public_inputs,
        secret_inputs=secret_inputs,
        hide=hide,
        keep_only=keep_only,
        unmatched=unmatched,
    )


def prepare_model(
    model: ir.Model,
    *,
    public: Sequence[str] = (),
    secret: Sequence[str] = (),
    public_inputs: Sequence[str] = (),
    secret_inputs: Sequence[str] = (),
    hide: Sequence[str] = (),
    keep_only: Sequence[str] = (),
    rewrite: bool = True,
    unmatched: set[str] | None = None,
) -> tuple[Blueprint, Graph]:
    """`prepare` of a model in memory, which is changed. rewrite=False takes the graph as it stands, without
    `next_token`."""
    free(model, {*public_inputs, *secret_inputs})
    rules = canonicalise(model).rules if rewrite else {}
    vocabulary = add_next_token(model) if rewrite else None
    hidden = hide_outputs(model, hide, unmatched)
    if vocabulary and OUTPUT in hidden:
        remove_input(model)
        vocabulary = None
    graph = to_graph(model)
    closed = matching("output", list(graph.outputs), keep_only, unmatched)
    if len(closed) == len(graph.outputs) and unmatched is None:  # of several graphs one may hand on all
        raise ConfigError("no output could be opened", "leave the clients one: next_token, say")
    seen = classify(graph, public, secret, unmatched)
    shown = open_inputs(graph, public_inputs, secret_inputs, unmatched)
    if vocabulary and SUPPRESSED not in shown:
        shown.append(SUPPRESSED)
    text = [name for name in shown if graph.inputs[name].dtype.kind == "O"]
    if text:
        raise ConfigError(
            f"input '{text[0]}' is text, and public inputs are numbers",
            "leave it secret: the client then computes what follows from it alone",
        )
    visibility = {name: str(v) for name, (v, _) in seen.items()}
    secrets = [name for name, v in visibility.items() if v == "secret"]
    skeleton = skeleton_bytes(graph, secrets)
    blueprint = Blueprint(
        load_skeleton(skeleton),
        skeleton,
        visibility,
        {n: r for n, (_, r) in seen.items()},
        tuple(shown),
        rules,
        vocabulary,
        tuple(hidden),
        tuple(closed),
    )
    return blueprint, graph
