"""Which connections are expected to ask again soon: those that write a text, and have just got a token.

Texts that begin at different times would else fall into groups that take turns: while one group computes, the
other gets its tokens, asks again and waits. Each run is then as long as one for all, and has half of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from onnxpuma.roles.server.job import Job

SHARE = 1 / 4  # of the seconds that a run took: how long the next one waits for its clients
MOST_SECONDS = 0.25


class Returning:
    """Remembers who got an answer. A connection that does not ask again in time is not waited for."""

    def __init__(self) -> None:
        # By connection: its graph, and until when.
        self._due: dict[bytes, tuple[tuple[str, bytes], float]] = {}

    def answered(self, jobs: Iterable[Job], seconds: float) -> None:
        """Note requests whose run has ended and took so long. Those that keep values go on from them."""
        until = time.monotonic() + min(MOST_SECONDS, SHARE * seconds)
        for job in jobs:
            if job.asked.selection.kept and not job.alone:
                self._due[job.request.route] = _graph(job), until

    def came(self, job: Job) -> None:
        """Note a request that has arrived."""
        self._due.pop(job.request.route, None)

    def may_join(self, jobs: Iterable[Job]) -> bool:
        """Whether a connection that is still expected may ask for what could run together with these."""
        now = time.monotonic()
        self._due = {route: due for route, due in self._due.items() if due[1] > now}
        graphs = {_graph(job) for job in jobs if not job.alone}
        return any(graph in graphs for graph, _ in self._due.values())


def _graph(job: Job) -> tuple[str, bytes]:
    body = job.request.body
    return body.model, body.model_digest
