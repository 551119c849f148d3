"""policy.json, read from a file or received: a policy not of the form that this package writes is refused.

A reader of a policy trusts neither the disk nor the sender. This file checks every entry that is used later:
its type, and that graph and policy name the same weights, inputs and outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from onnxpuma.errors import PlanError
from onnxpuma.graph.model import Graph
from onnxpuma.graph.next_token import NEXT_TOKEN, SUPPRESSED
from onnxpuma.graph.noising import noise_nodes
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.protocols.fourier import fingerprint
from onnxpuma.ops.narrow_factor import LEAST_READ, LEAST_STORED, WIDTHS
from onnxpuma.ops.registry import FINEST
from onnxpuma.plan.inputs.spec import LARGEST_INPUT
from onnxpuma.plan.narrow import fits
from onnxpuma.plan.noise.noised import Noised
from onnxpuma.transport.sealing import is_owner_key
from onnxpuma.versions import FILES

COPY_AGAIN = "copy the folder again from the model's owner"
_WIDEST_RANGE = 1000  # float64 holds powers of two with exponents below this


def read_policy(content: bytes, where: str) -> dict[str, Any]:
    """The entries of a policy.json, with their types checked. where: its origin, for messages.

    Raises PlanError for a policy of another version, and for a damaged one.
    """
    try:
        policy = json.loads(content)
        json.dumps(policy, ensure_ascii=False).encode()  # rejects half a character, a lone surrogate
    except (ValueError, RecursionError) as error:
        raise PlanError(f"policy.json of {where} is damaged: {error}", COPY_AGAIN) from error
    if not isinstance(policy, dict) or not _is_text(policy.get("version")):
        raise PlanError(f"policy.json of {where} is damaged: it names no version", COPY_AGAIN)
    if policy["version"] != FILES:
        raise PlanError(
            f"{where} was shared with onnxpuma {policy['version']}, this reads the files of {FILES}",
            "install the same version as its owner, or share the model again",
        )
    _check_form({**_LEFT_OUT, **policy}, _FORM, where)
    _check_form(policy["derived"], _DERIVED, where)
    return policy


def digest_of(skeleton: bytes, policy: Mapping[str, Any]) -> str:
    """A digest over the skeleton and policy.json, entries in their order, in which weights are stored."""
    said = {name: value for name, value in policy.items() if name not in ("version", "digest")}
    content = json.dumps([hashlib.sha256(skeleton).hexdigest(), said, FILES, fingerprint()])
    return hashlib.sha256(content.encode()).hexdigest()


def written(entries: Mapping[str, Any]) -> bytes:
    """The text of a public JSON file."""
    return json.dumps(entries, indent=1).encode() + b"\n"


def check_fits(policy: Mapping[str, Any], graph: Graph, where: str) -> None:
    """Raise PlanError unless the policy belongs to this graph, read from a skeleton."""
    secret = {name for name, initializer in graph.initializers.items() if not initializer.available}
    visibility, derived = policy["visibility"], policy["derived"]
    made = {output for node in graph.nodes for output in node.outputs}
    generates = SUPPRESSED in graph.inputs and NEXT_TOKEN in graph.outputs
    said = {
        "weights": set(visibility) == set(graph.initializers)
        and secret == {name for name, seen in visibility.items() if seen == "secret"}
        and set(policy["reasons"]) == set(visibility),
        "scales": set(policy["fractions"]) <= secret
        and all(_is_scale(policy, *entry) for entry in policy["fractions"].items()),
        "rings": set(policy["rings"]) <= secret
        and all(_is_ring(policy, graph, *entry) for entry in policy["rings"].items()),
        "readings": set(policy["reads"]) <= set(policy["rings"])
        and all(LEAST_READ <= bits <= FINEST for bits in policy["reads"].values()),
        "formats": fits(Format(*policy["resting"])),
        "facts": all(name in {*secret, *made, *graph.inputs} for name in policy["facts"]),
        "ranges of inputs": set(policy["declared"]) <= set(graph.inputs),
        "inputs": {*policy["public_inputs"], *derived["resumed"]} <= set(graph.inputs),
        "outputs": set(derived["closed"]) <= set(graph.outputs),
        "noise": _is_noise_of(policy, graph, secret),
        "ids": derived["vocabulary"] is None or generates,
    }
    for what, holds in said.items():
        if not holds:
            raise PlanError(f"policy.json of {where} names other {what} than the skeleton", COPY_AGAIN)


def _is_noise_of(policy: Mapping[str, Any], graph: Graph, secret: set[str]) -> bool:
    noised = Noised.read(policy.get("noise"))
    if noised is None:
        return not noise_nodes(graph)
    return noised.fits(graph, secret) and not policy["checked"] and not policy["derived"]["closed"]


def _is_scale(policy: Mapping[str, Any], weight: str, fraction: int) -> bool:
    least = LEAST_STORED if weight in policy["reads"] else RESTING.fraction + 1
    return least <= fraction <= FINEST and fraction != RESTING.fraction


def _is_ring(policy: Mapping[str, Any], graph: Graph, weight: str, bits: int) -> bool:
    real = graph.initializers[weight].dtype.kind == "f"
    return real and bits in WIDTHS and bits < RESTING.bits == policy["resting"][0]


def _check_form(entries: Mapping[str, Any], form: Mapping[str, Callable[[Any], bool]], where: str) -> None:
    for key, holds in form.items():
        if key not in entries or not holds(entries[key]):
            what = "has the wrong form" if key in entries else "is missing"
            raise PlanError(f"policy.json of {where} is damaged: its '{key}' {what}", COPY_AGAIN)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_exponent(value: Any) -> bool:
    return type(value) is int and abs(value) < _WIDEST_RANGE


def _is_interval(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or any(type(end) is not float for end in value):
        return False
    return bool(abs(value[0]) <= LARGEST_INPUT and abs(value[1]) <= LARGEST_INPUT and value[0] <= value[1])


def _is_visibility(value: Any) -> bool:
    return value in ("secret", "public")


def _is_vocabulary(value: Any) -> bool:
    return value is None or (_is_count(value) and 0 < value < 1 << 31)


def _is_noise(value: Any) -> bool:
    try:
        Noised.read(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _table_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


_LEFT_OUT = {"noise": None, "owner_key": ""}  # entries that a policy mentions only where they say more
_FORM = {
    "digest": _is_text,
    "public_inputs": _list_of(_is_text),
    "visibility": _table_of(_is_visibility),
    "reasons": _table_of(_is_text),
    "recognised": _table_of(_is_count),
    "derived": _table_of(lambda _: True),
    "ranges": _table_of(_table_of(_is_exponent)),
    "fractions": _table_of(_is_count),
    "rings": _table_of(_is_count),
    "reads": _table_of(_is_count),
    "facts": _table_of(_table_of(_is_exponent)),
    "declared": _table_of(_is_interval),
    "noise": _is_noise,
    "owner_key": lambda value: value == "" or (_is_text(value) and is_owner_key(value)),
    "checked": lambda value: isinstance(value, bool),
    "resting": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)),
}
_DERIVED = {
    "inputs": _list_of(_is_text),
    "outputs": _list_of(_is_text),
    "vocabulary": _is_vocabulary,
    "hidden": _list_of(_is_text),
    "closed": _list_of(_is_text),
    "resumed": _table_of(_list_of(_is_text)),
}
