"""The public part of a shared model, which three servers and every client have.

A blueprint is the canonical graph without its weights (the skeleton), the visibility of every constant and
input, and a digest over both. The weights go to the servers as shares; the blueprint states their shapes, and
rounded facts about their size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import OnnxpumaError, PlanError
from onnxpuma.graph.model import Graph
from onnxpuma.graph.next_token import NEXT_TOKEN, NEXT_TOKENS, SUPPRESSED
from onnxpuma.graph.sampling import DRAWN, default_inputs
from onnxpuma.graph.save import load_skeleton
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.registry import resting_of
from onnxpuma.plan.draft import write_files
from onnxpuma.plan.inputs.roles import specs_of, tables
from onnxpuma.plan.inputs.spec import InputSpec
from onnxpuma.plan.noise.noised import Noised
from onnxpuma.plan.policy_file import COPY_AGAIN, check_fits, digest_of, read_policy, written
from onnxpuma.plan.weights.facts import Facts, bound_of
from onnxpuma.plan.weights.listing import PublicEntry, listing
from onnxpuma.versions import FILES

SKELETON = "skeleton.onnx"
POLICY = "policy.json"

LARGE = 1 << 29  # weights


@dataclass(frozen=True)
class Blueprint:
    """The canonical graph, visibility and digest of a model."""

    graph: Graph
    skeleton: bytes = field(repr=False)
    # Initializer -> "secret" or "public".
    visibility: dict[str, str] = field(repr=False)
    # Initializer -> why.
    reasons: dict[str, str] = field(repr=False)
    public_inputs: tuple[str, ...]
    # Rewriting rule -> how often it applied.
    recognised: dict[str, int] = field(repr=False)
    # The number of ids that the model generates. It then has the derived output `next_token` and, unless they
    # are hidden, those beside it, and derived inputs (graph/next_token.py, graph/sampling.py).
    vocabulary: int | None = None
    # Outputs that the owner withholds.
    hidden: tuple[str, ...] = ()
    # Closed outputs: a client may have the servers keep them and continue from them, and no client opens
    # them.
    closed: tuple[str, ...] = ()
    # Node -> quantity -> the power of two that it stays below, by calibration (plan/examine/calibrate.py).
    ranges: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    # Input -> the closed outputs that it continues (plan/inputs/closed.py).
    resumed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Weight -> its fraction bits, where it has more than others (plan/weights/scaling.py), or fewer.
    fractions: dict[str, int] = field(default_factory=dict, repr=False)
    # Weight -> the bits of its words, where they are fewer than values rest in (plan/examine/widths.py).
    rings: dict[str, int] = field(default_factory=dict, repr=False)
    # Weight in such a ring -> the fraction bits at which its products read their other factor.
    reads: dict[str, int] = field(default_factory=dict, repr=False)
    # Whether every run tells its client if a value left its range (plan/bounds/checks.py).
    checked: bool = True
    # The owner's facts about the weights, for the bounds of values computed from them
    # (plan/weights/facts.py).
    facts: Facts = field(default_factory=dict, repr=False)
    # Input -> the range that clients keep its numbers in, both ends included (plan/declared.py).
    declared: dict[str, list[float]] = field(default_factory=dict)
    # The format of every secret real between two steps; integers rest in the same ring (plan/narrow.py).
    resting: Format = RESTING
    # The noise on its outputs, which nodes of the graph add; None: they are exact (graph/noising.py).
    noised: Noised | None = None
    # The public key to which servers seal what an audit needs (transport/sealing.py); "": no audits.
    owner_key: str = ""
    # Public constants that may have been trained: `share` asks the owner about them before anybody else sees
    # them. Known where the model was prepared, and not shared.
    doubtful: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """A hash over graph, policy, version and twin tables: servers and clients compare it before a run."""
        return digest_of(self.skeleton, self._policy)

    def bounds(self, node: str) -> dict[str, float]:
        """Quantity (`Limit.key`) of a node -> the bound that calibration found."""
        return {key: 2.0**exponent for key, exponent in self.ranges.get(node, {}).items()}

    @cached_property
    def known_bounds(self) -> dict[str, Bound]:
        return {name: bound_of(found) for name, found in self.facts.items()}

    def format(self, weight: str) -> Format:
        """The format of a secret initializer's words."""
        resting = resting_of(self.graph.initializers[weight].dtype, self.resting)
        bits = self.rings.get(weight, resting.bits)
        return Format(bits, self.fractions.get(weight, resting.fraction))

    @property
    def finer(self) -> dict[str, int]:
        """Weight -> the fraction bits that it has beyond those of other values."""
        usual = RESTING.fraction
        return {name: bits - usual for name, bits in self.fractions.items() if bits > usual}

    @property
    def weights(self) -> list[str]:
        """Names of the secret initializers, in the graph's order."""
        return [name for name, seen in self.visibility.items() if seen == "secret"]

    @cached_property
    def is_large(self) -> bool:
        """Whether each run waits for the weights, not for messages: then products may read fewer bits."""
        return sum(self.graph.initializers[name].size for name in self.weights) >= LARGE

    def public_listing(self) -> list[PublicEntry]:
        """The public constants that the owner should look at (plan/weights/listing.py)."""
        return listing(self.graph, self.visibility, self.reasons, self.doubtful)

    @cached_property
    def inputs(self) -> dict[str, InputSpec]:
        found = specs_of(self.graph, self.public_inputs, self.resumed, self.declared, self.facts)
        if self.vocabulary:
            nothing = np.zeros(0, found[SUPPRESSED].dtype)
            found[SUPPRESSED] = replace(found[SUPPRESSED], vocabulary=self.vocabulary, default=nothing)
            for name, default in default_inputs(self.vocabulary).items():
                if name in found:
                    found[name] = replace(found[name], default=default)
        return found

    @property
    def derived_inputs(self) -> tuple[str, ...]:
        """Inputs that the exported model does not have; each has a default."""
        derived = (SUPPRESSED, *default_inputs(self.vocabulary)) if self.vocabulary else ()
        return tuple(name for name in derived if name in self.graph.inputs)

    @property
    def derived_outputs(self) -> tuple[str, ...]:
        """Outputs that the exported model does not have."""
        derived = (NEXT_TOKEN, NEXT_TOKENS, *DRAWN) if self.vocabulary else ()
        return tuple(name for name in derived if name in self.graph.outputs)

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
        """The exported outputs that may be opened; `next_token` where there are none."""
        shown = [name for name in self.graph.outputs if name not in self.closed]
        return [name for name in shown if name not in self.derived_outputs] or shown[:1]

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
            "rings": self.rings,
            "reads": self.reads,
            "facts": self.facts,
            "declared": self.declared,
            "checked": self.checked,
            "resting": list(self.resting),
            **({} if self.noised is None else {"noise": self.noised.entries()}),
            **({"owner_key": self.owner_key} if self.owner_key else {}),
        }

    def files(self) -> dict[str, bytes]:
        """The public files of the graph, skeleton.onnx and policy.json: name -> content."""
        content = written({"version": FILES, "digest": self.digest, **self._policy})
        return {SKELETON: self.skeleton, POLICY: content}

    def save(self, folder: Path) -> None:
        """Replace the public files in a folder, each atomically."""
        write_files(folder, self.files())

    @classmethod
    def read(cls, folder: Path) -> Blueprint:
        """Read the files in `folder`. PlanError if they are incomplete, damaged or of another version."""
        try:
            skeleton, policy = ((folder / name).read_bytes() for name in (SKELETON, POLICY))
        except OSError as error:
            raise PlanError(
                f"{folder} is not a shared model: {error}", "give the folder that `onnxpuma share` wrote"
            ) from error
        return cls.parse(skeleton, policy, str(folder))

    @classmethod
    def parse(cls, skeleton: bytes, content: bytes, where: str) -> Blueprint:
        """Read the content that `files` wrote. where: its origin, for messages. Raises as `read`.

        onnx parses the skeleton only after its digest has been found right.
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
        except Exception as error:  # of any kind, as this package did not write the graph
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
            noised=Noised.read(policy.get("noise")),
            owner_key=policy.get("owner_key", ""),
            **{key: policy[key] for key in ("fractions", "rings", "reads", "checked", "facts", "declared")},
        )
        if made.digest != policy["digest"]:  # it has entries that were not read from it
            raise damaged
        return made
