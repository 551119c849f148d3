"""Names picked by an owner's patterns. A pattern that matches nothing is an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from onnxpuma.errors import ConfigError


def matching(
    what: str, names: Sequence[str], patterns: Sequence[str], unmatched: set[str] | None = None
) -> list[str]:
    """The names that one of the patterns matches; `what` describes them in the error.

    Raises ConfigError for a pattern that matches none; if `unmatched` is given, the pattern is added to it
    instead.
    """
    picks = {pattern: picked(names, pattern) for pattern in patterns}
    for pattern, found in picks.items():
        if found:
            continue
        if unmatched is None:
            raise ConfigError(f"no {what} matches '{pattern}'", f"the model's {what}s are {', '.join(names)}")
        unmatched.add(pattern)
    return [name for name in names if any(name in found for found in picks.values())]


def picked(names: Iterable[str], pattern: str) -> set[str]:
    """The names that a pattern matches. Brackets are literal where a name contains them, as in
    `layers[0].weight`; otherwise they enclose a set of characters, as in a shell."""
    names = set(names)
    literal = pattern.replace("[", "[[]")
    return {n for n in names if fnmatchcase(n, literal)} or {n for n in names if fnmatchcase(n, pattern)}
