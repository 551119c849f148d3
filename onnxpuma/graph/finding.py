"""What was found of one constant: who may see it, and why."""

from __future__ import annotations

from typing import Literal, NamedTuple

Visibility = Literal["secret", "public"]


class Finding(NamedTuple):
    """Whether a constant is a weight or architecture.

    doubtful: it has to be public, because its operator takes no secret there, and nothing shows that it was
    not trained. Such a constant leaves its owner only when the owner says so.
    """

    visibility: Visibility
    reason: str
    doubtful: bool = False

    @property
    def secret(self) -> bool:
        return self.visibility == "secret"
