"""The values that one server keeps between two requests: its shares, by client, handle and name.

A decoder's cache and an encoder's output stay where they were computed, for a limited time and up to a
limited size. Only the client whose request made a value can refer to it (request/kept.py); not even that
client sees it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxpuma.config import KeptConfig
from onnxpuma.errors import BusyError, InputError
from onnxpuma.mpc.forms import Replicated
from onnxpuma.plan.plan import Plan, PlannedOutput
from onnxpuma.roles.request.message import MADE_HERE
from onnxpuma.roles.request.view import WHOLE, View


@dataclass(frozen=True)
class KeptShares:
    """One server's shares of a kept value."""

    words: Replicated = field(repr=False)
    output: PlannedOutput  # as the plan of the run that made it has it
    session: bytes  # of that run; the same at all three servers


@dataclass
class _Entry:
    values: dict[str, KeptShares]
    used: float


class Store:
    """The kept values of one server. No client displaces the values of another."""

    def __init__(self, limits: KeptConfig) -> None:
        self.limits = limits
        self._clients: dict[str, OrderedDict[bytes, _Entry]] = {}

    def put(self, client: str, handle: bytes, values: Mapping[str, KeptShares]) -> None:
        """Keep `values`; those of this client that were used longest ago make room."""
        entries = self._clients.setdefault(client, OrderedDict())
        entries[handle] = _Entry({name: _compact(value) for name, value in values.items()}, time.monotonic())
        entries.move_to_end(handle)
        while len(entries) > 1 and _bytes(entries.values()) > self._most_bytes:
            entries.popitem(last=False)

    def get(
        self, client: str, handle: bytes, name: str, shape: tuple[int, ...], view: View = WHOLE
    ) -> KeptShares:
        """The shares kept under this handle and name, whole: the run itself takes what the request asks for.

        InputError if this client keeps nothing there, or nothing of which `view` has this shape."""
        self.expire()
        entries = self._clients.get(client, OrderedDict())
        entry = entries.get(handle)
        if entry is None or name not in entry.values:
            raise InputError(
                f"the servers do not hold '{name}' of handle {handle.hex()[:8]} for this client",
                f"it was released, displaced, or not used for {self.limits.seconds:g} s, or a server was"
                " restarted: repeat the request that made it",
            )
        entry.used = time.monotonic()
        entries.move_to_end(handle)
        found = entry.values[name]
        whole = found.output.shape
        if view == WHOLE and shape == whole:
            return found
        length = shape[view.axis] if view.axis < len(shape) else 0
        if len(shape) != len(whole) or view.shape(whole, length) != shape:
            raise InputError(f"the kept '{name}' has shape {whole}, the request says {shape}", MADE_HERE)
        return found

    def release(self, client: str, names: Iterable[tuple[bytes, str]]) -> None:
        """Forget these (handle, name); values that are gone already do no harm."""
        entries = self._clients.get(client, OrderedDict())
        for handle, name in names:
            entry = entries.get(handle)
            if entry is not None:
                entry.values.pop(name, None)
                if not entry.values:
                    del entries[handle]

    def expire(self) -> None:
        """Forget the values that were not used for the time allowed."""
        oldest = time.monotonic() - self.limits.seconds
        for client, entries in list(self._clients.items()):
            while entries and next(iter(entries.values())).used < oldest:
                entries.popitem(last=False)
            if not entries:
                del self._clients[client]

    def check_room(self, plan: Plan, client: str) -> None:
        """InputError if this plan keeps more than a client may keep in all, BusyError if it keeps more than
        other clients leave."""
        size = sum(o.format.held * int(np.prod(o.shape, dtype=np.int64)) for o in plan.kept)
        if size > self._most_bytes:
            raise InputError(
                f"the request wants {size / 1e6:.0f} MB kept at each server, a client may keep"
                f" {self.limits.megabytes} MB",
                "raise `megabytes` under [kept] in cluster.toml at all three servers, or take shorter inputs",
            )

        others = {name: entries for name, entries in self._clients.items() if name != client}
        taken = sum(_bytes(entries.values()) for entries in others.values())
        if size and self.limits.all_megabytes and size + taken > self.limits.all_megabytes * 1_000_000:
            oldest = min((next(iter(entries.values())).used for entries in others.values()), default=0.0)
            left = max(1.0, oldest + self.limits.seconds - time.monotonic())
            raise BusyError(
                f"the request wants {size / 1e6:.0f} MB kept, where others keep {taken / 1e6:.0f} MB",
                f"try again in {left:.2g} s; `all_megabytes` under [kept] in cluster.toml is the limit",
                left,
            )

    @property
    def size(self) -> int:
        """Bytes of all kept values."""
        return sum(_bytes(entries.values()) for entries in self._clients.values())

    @property
    def _most_bytes(self) -> int:
        return self.limits.megabytes * 1_000_000


def _bytes(entries: Iterable[_Entry]) -> int:
    return sum(
        value.words.format.held * value.words.size for entry in entries for value in entry.values.values()
    )


def _compact(value: KeptShares) -> KeptShares:
    """The value in arrays of its own: a view would keep alive the array that it was cut from."""
    words = value.words.owned()
    return KeptShares(words, value.output, value.session)
