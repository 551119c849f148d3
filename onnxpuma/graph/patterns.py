"""Names picked by patterns, as an owner writes them: a pattern that picks nothing is an error, not a wish."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from onnxpuma.errors import ConfigError


def matching(
    what: str, names: Sequence[str], patterns: Sequence[str], unmatched: set[str] | None = None
) -> list[str]:
    """The names that one of the patterns matches; `what` they are, for the error.

    Raises ConfigError for a pattern that matches none; where `unmatched` is given it goes there instead.
    """
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        if unmatched is None:
            raise ConfigError(f"no {what} matches '{pattern}'", f"the model's {what}s are {', '.join(names)}")
        unmatched.add(pattern)
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
