"""What an owner discloses by sharing a model: nothing that may be trained, unless the owner consents."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Callable, Iterable, Mapping

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.roles import role_of
from onnxpuma.plan.weights.listing import PublicEntry
from onnxpuma.roles.shared.model import SharedModel

Review = Callable[[SharedModel], bool]
"""Sees what would be public before anything is written; True allows the doubtful constants among it."""

_MOST_NAMED = 20


def here_alone(_: SharedModel) -> bool:
    """The review of a model that is shared among processes of this machine: nothing leaves it."""
    return True


def check_disclosed(model: SharedModel, review: Review | None) -> None:
    """ConfigError for a public constant that may be trained, unless the owner named it or `review` agrees."""
    agreed = review is not None and review(model)
    found = {} if agreed else doubtful(model.graphs)
    if found:
        names = [entry.name for entries in found.values() for entry in entries]
        listing = "; ".join(
            f"{entry.name} {list(entry.shape)} ({entry.reason})"
            for entry in [e for entries in found.values() for e in entries][:_MOST_NAMED]
        )
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise ConfigError(
            f"{len(names)} constant{'s' if len(names) > 1 else ''} of this model would be public and may be"
            f" trained: {listing}{more}",
            f"if everybody may see them, say so: {public_options(names)} (in Python public=[...]);"
            " --yes agrees to all",
        )


def doubtful(graphs: Mapping[str, Blueprint]) -> dict[str, list[PublicEntry]]:
    """The public constants of each graph that may be trained; a graph without any is absent."""
    found = {
        name: [entry for entry in blueprint.public_listing() if entry.doubtful]
        for name, blueprint in graphs.items()
    }
    return {name: entries for name, entries in found.items() if entries}


def public_options(names: Iterable[str]) -> str:
    """The command-line options that name exactly these, quoted for a shell."""
    return " ".join(f"--public {shlex.quote(glob.escape(name))}" for name in dict.fromkeys(names))


def inputs_to_name(blueprint: Blueprint) -> list[str]:
    """The public inputs that a client reveals only if it names them itself (client/consent.py)."""
    specs = blueprint.inputs
    return [
        name
        for name in blueprint.public_inputs
        if name not in blueprint.derived_inputs
        and role_of(name, specs[name].dtype, specs[name].vocabulary) is None
    ]
