"""The attributes of an operator and their defaults, as its schema declares them.

An operator that the planner adds has no schema: the file with its kernel declares its attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx

NEWEST = onnx.defs.onnx_opset_version()
_DECLARED: dict[tuple[str, str], Mapping[str, Any]] = {}


def declare(domain: str, op: str, **defaults: Any) -> None:
    """Declare the attributes of an operator that no standard defines."""
    _DECLARED[domain, op] = defaults


@cache
def signature(op: str, version: int, domain: str = "") -> Mapping[str, Any]:
    """Attribute -> its default; None where it has none.

    An attribute that only another version of the operator has keeps that version's default: one kernel serves
    them all. Empty for an operator that is not declared anywhere.
    """
    if (domain, op) in _DECLARED:
        return _DECLARED[domain, op]
    found: dict[str, Any] = {}
    for schema in _versions(op, domain):
        own = schema.since_version <= version
        for name, attribute in schema.attributes.items():
            if own or name not in found:
                found[name] = _default(attribute)
    return found


def _versions(op: str, domain: str) -> Iterator[onnx.defs.OpSchema]:
    """The schemas of an operator, the oldest first."""
    schemas, version = [], NEWEST
    while version > 0 and onnx.defs.has(op, version, domain):
        schemas.append(onnx.defs.get_schema(op, version, domain))
        version = schemas[-1].since_version - 1
    yield from reversed(schemas)


def _default(attribute: onnx.defs.OpSchema.Attribute) -> Any:
    if not attribute.default_value.name:
        return None
    value = onnx.helper.get_attribute_value(attribute.default_value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return float(str(np.float32(value)))  # 1e-05 as the standard writes it, not the float32 next to it
    return value


def since_version(op: str, domain: str, domains: Mapping[str, int]) -> int:
    """The version in which the schema of an operator last changed, up to the imported operator sets."""
    imported = domains.get(domain, 1)
    try:
        return int(onnx.defs.get_schema(op, imported, domain).since_version)
    except onnx.defs.SchemaError:
        return imported


def default_of(op: str, name: str, version: int = NEWEST, domain: str = "") -> Any:
    """The value of an attribute that a node leaves out. KeyError if no version of the operator has it."""
    known = signature(op, version, domain)
    if name not in known:
        raise KeyError(f"{op} has no attribute '{name}'")
    return known[name]
