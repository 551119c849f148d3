"""What the operator of a running server tells it: to end, to leave in order, to read cluster.toml again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from threading import Event

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError

TAKEN = ("clients", "limits", "kept")  # what a running server takes from cluster.toml anew

_log = logging.getLogger("onnxpuma.roles")


@dataclass(frozen=True)
class Orders:
    """Set from any thread, or by a signal; the server obeys within 0.5 s, or at its next round."""

    stop: Event = field(default_factory=Event)  # end at once; a running request fails
    leave: Event = field(default_factory=Event)  # refuse what has not begun, finish what runs, then end
    reload: Event = field(default_factory=Event)  # take clients and limits from cluster.toml
    read: Callable[[], ClusterConfig] | None = None  # reads cluster.toml; None: there is nothing to reload

    def reloaded(self, config: ClusterConfig) -> ClusterConfig | None:
        """If told to reload: `config` with what a running server takes from cluster.toml anew.

        The log names what takes effect and what needs a restart. None if there is nothing to do, or
        cluster.toml is broken: the server then goes on with what it has, and the log says so.
        """
        if not self.reload.is_set():
            return None
        self.reload.clear()
        if self.read is None:
            return None
        try:
            found = self.read()
        except ConfigError as error:
            _log.error("the old cluster.toml stays in force: %s; %s", error.message, error.hint)
            return None
        names = [item.name for item in fields(ClusterConfig)]
        changed = [name for name in names if getattr(found, name) != getattr(config, name)]
        taken = [name for name in changed if name in TAKEN]
        left = [_headed(name) for name in changed if name not in TAKEN]
        _log.info("cluster.toml was read again: %s", _described(config, found, taken))
        if left:
            _log.warning("a restart is needed for what changed under %s", ", ".join(left))
        return replace(config, **{name: getattr(found, name) for name in TAKEN})


def _headed(name: str) -> str:
    return "[[party]]" if name == "parties" else f"[{name}]"


def _described(old: ClusterConfig, new: ClusterConfig, taken: list[str]) -> str:
    """What takes effect, in words."""
    said = [f"[{name}]" for name in taken if name != "clients"]
    if "clients" in taken:
        came = sorted(name for name in new.clients if new.clients[name] != old.clients.get(name))
        went = sorted(name for name in old.clients if name not in new.clients)
        said = [
            *(f"client {name} may ask" for name in came),
            *(f"client {name} may not" for name in went),
            *said,
        ]
    return "; ".join(said) or "nothing in it changes a running server"
