"""What a server keeps of a session that its client may open as a canary: for a short time, in memory alone.

Only requests that carry a commitment leave anything here. Keys are overwritten when their time is over, and
nobody gets them but the model's owner, in a seal, once the client has opened the commitment.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxpuma.errors import BusyError, InputError
from onnxpuma.roles.request.commitment import is_opened
from onnxpuma.roles.request.testimony import Testimony, Way, payload_of, sealed
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.chained import CHAIN_BYTES
from onnxpuma.transport.request import Request
from onnxpuma.transport.signing import SigningKey

MOST_SESSIONS = 1000
MOST_BYTES = 1 << 28  # of digests


@dataclass
class Evidence:
    """What one server knows of a session, besides its shares and the values: fields as of `Testimony`."""

    party: int
    session: bytes
    coins: tuple[bytes, ...] = field(repr=False)
    parts: list[bytearray] = field(repr=False)
    keys: dict[int, bytearray] = field(repr=False)
    digests: Mapping[Way, tuple[bytes, ...]] = field(repr=False)
    begun: Mapping[str, Any]
    at_begin: bytes
    commitment: bytes

    @property
    def size(self) -> int:
        """About the bytes that it takes."""
        return sum(CHAIN_BYTES * len(each) for each in self.digests.values())

    def testimony(self, opening: bytes) -> Testimony:
        """Its content, for the one who opens the commitment."""
        first, second = (bytes(part) for part in self.parts)
        keys = {component: bytes(key) for component, key in self.keys.items()}
        return Testimony(
            self.party,
            self.session,
            self.coins,
            (first, second),
            keys,
            self.digests,
            self.begun,
            self.at_begin,
            self.commitment,
            opening,
        )

    def destroy(self) -> None:
        """Overwrite the keys, and what they were made of."""
        for secret in (*self.parts, *self.keys.values()):
            secret[:] = bytes(len(secret))


@dataclass
class _Entry:
    owner: str  # of the model, public key
    evidence: Evidence
    until: float
    told: bytes = b""  # the testimony, once its client has opened the commitment


class Retained:
    """The sessions of late that may have been canaries, at one server.

    seconds: that each is kept after its run. now: a clock.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._now = seconds, now
        # By public key of the client and id of the request, the oldest first.
        self._entries: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def check_room(self) -> None:
        """BusyError where no further session could be kept: none is given up for a newer one."""
        self.expire()
        size = sum(entry.evidence.size for entry in self._entries.values())
        if len(self._entries) < MOST_SESSIONS and size < MOST_BYTES:
            return
        left = max(0.1, next(iter(self._entries.values())).until - self._now())
        raise BusyError(
            f"the keys of {len(self._entries)} sessions are kept, which their clients may open as canaries",
            f"try again in {left:.2g} s; `canary_seconds` under [receipts] in cluster.toml is the time",
            left,
        )

    def keep(self, request: Request, owner: str, evidence: Evidence | None) -> None:
        """Keep what an audit of this request's run would need, if there is any. owner: the public key of the
        model's owner."""
        if evidence is None:
            return
        before = self._entries.pop((request.key, request.id), None)
        if before is not None:
            before.evidence.destroy()
        self._entries[request.key, request.id] = _Entry(owner, evidence, self._now() + self.seconds)

    def hand_over(self, request: Request, key: SigningKey) -> bytes:
        """The testimony that a client asks for, signed with `key` and sealed to the model's owner.

        Raises InputError unless the client made that request, opens its commitment, and is in time.
        """
        self.expire()
        asked: wire_pb2.Opened = request.body.opened
        entry = self._entries.get((request.key, asked.request))
        if entry is None:
            raise InputError(
                f"no keys of request {asked.request.hex()[:8]} are here for this client",
                f"a server keeps those of a request with a commitment, for {self.seconds:g} s after its run"
                " (`canary_seconds` under [receipts] in cluster.toml), and none across a restart",
            )
        if not is_opened(entry.evidence.commitment, asked.opening):
            raise InputError(
                f"that does not open the commitment of request {asked.request.hex()[:8]}",
                "servers hand over keys of canaries alone",
            )
        entry.told = entry.told or sealed(
            payload_of(entry.evidence.testimony(asked.opening)), key, entry.owner
        )
        return entry.told

    def expire(self) -> None:
        """Destroy what has been kept for its time."""
        for request, entry in list(self._entries.items()):
            if entry.until <= self._now():
                del self._entries[request]
                entry.evidence.destroy()

    def clear(self) -> None:
        """Destroy everything."""
        while self._entries:
            self._entries.popitem()[1].evidence.destroy()
