"""The finding about one constant: who may see it, and why."""

from __future__ import annotations

from typing import Literal, NamedTuple

Visibility = Literal["secret", "public"]


class Finding(NamedTuple):
    """Whether a constant is a weight or architecture."""

    visibility: Visibility
    reason: str
    # It must be public, because its operator takes no secret there, but may have been trained: it leaves the
    # owner's machine only with the owner's consent.
    doubtful: bool = False

    @property
    def secret(self) -> bool:
        return self.visibility == "secret"
