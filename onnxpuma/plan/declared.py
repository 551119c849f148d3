"""Declared ranges of inputs: an owner states the lowest and the highest number that a request may contain.

Clients refuse other numbers before a byte moves, so bounds can rest on the ranges (plan/bounds/ranges.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.spec import LARGEST_INPUT
from onnxpuma.plan.owner_policy import Declared


def declare(blueprint: Blueprint, ranges: Declared) -> Blueprint:
    """The blueprint with the ranges of those inputs that it has.

    Raises ConfigError for an input that is public, of integers, or filled by kept values alone, and for ends
    that are no range.
    """
    found = {}
    for name, (low, high) in ranges.items():
        spec = blueprint.inputs.get(name)
        if spec is None:
            continue
        if spec.dtype.kind != "f" or not spec.secret or spec.sources:
            raise ConfigError(
                f"input '{name}' takes no range: only secret reals that a client gives do",
                "onnxpuma inspect shows its inputs",
            )
        if not -LARGEST_INPUT <= low <= high <= LARGEST_INPUT:
            raise ConfigError(f"{low:g} to {high:g} is no range for '{name}'", "write LOW:HIGH, as in 0:1")
        found[name] = [float(low), float(high)]
    return replace(blueprint, declared={**blueprint.declared, **found})


def declare_all(blueprint: Blueprint, ranges: Declared) -> Blueprint:
    """`declare` for a model of one graph. Raises ConfigError also for an input that it does not have."""
    check_declared({"": blueprint}, ranges)
    return declare(blueprint, ranges)


def check_declared(blueprints: Mapping[str, Blueprint], ranges: Declared) -> None:
    """Raise ConfigError for a range of an input that no graph has."""
    known = {name for blueprint in blueprints.values() for name in blueprint.inputs}
    for name in ranges:
        if name not in known:
            listing = ", ".join(sorted(known))
            raise ConfigError(f"the model has no input '{name}'", f"its inputs are {listing}")
