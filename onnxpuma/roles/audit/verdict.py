"""What an audit finds: which server departed from the program, at which message, and what convicts it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxpuma.roles.audit.evidence import Testimony, Way
from onnxpuma.roles.request.receipt import Signed
from onnxpuma.transport.link import Tag


class Finding(enum.Enum):
    """How much an audit could tell."""

    NOBODY = "nobody departed"
    SERVERS = "these servers departed"
    ONE_OF = "one of these servers departed, and nothing tells which"
    SILENT = "these servers gave nothing that could clear them"


@dataclass(frozen=True)
class Verdict:
    """The outcome of an audit."""

    finding: Finding
    servers: tuple[int, ...]  # by party; empty for NOBODY
    why: str  # in words
    way: Way | None = None  # sender and receiver of the first message that departs
    tag: Tag | None = None  # of that message: step, round, operator
    # What each of the servers named signed: its receipt, and what it handed over.
    statements: tuple[Signed, ...] = field(default=(), repr=False)
    testimonies: tuple[Testimony, ...] = field(default=(), repr=False)

    @property
    def who(self) -> int | None:
        """The one server that departed, or was silent; None for nobody, several, or one of two."""
        return self.servers[0] if len(self.servers) == 1 else None

    def __str__(self) -> str:
        where = "" if self.way is None or self.tag is None else f" (first at {message(self.way, self.tag)})"
        return f"{self.why}{where}"


def message(way: Way, tag: Tag) -> str:
    """A message in words."""
    return f"the message of server {way[0]} to server {way[1]} at {tag}"


def named(servers: Sequence[int]) -> str:
    """Servers in words: "server 0 and server 2"."""
    return " and ".join(f"server {party}" for party in sorted(servers))
