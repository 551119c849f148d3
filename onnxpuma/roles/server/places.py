"""Which request may begin beside the runs that are under way. Party 0 decides.

There are a few places for runs (`limits.sessions`). A request that could share a run leaves the free ones to
those that cannot: it waits for the run of its graph that is under way, and begins together with all that wait
alike. A client gets a second place only where no other client waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnxpuma.roles.server.job import Batch, Job

JOIN_SECONDS = 5.0  # that a request waits for the run of its graph to end, before it takes a free place


def together(first: Job, other: Job) -> bool:
    """Whether two requests may be one run: of one graph of one model, neither to run alone."""
    one, two = ((job.request.body.model, job.request.body.model_digest) for job in (first, other))
    return one == two and not (first.alone or other.alone)


def in_order(job: Job, running: Sequence[Batch]) -> bool:
    """Whether no run must end before this job begins: the requests of one client that make, read or forget
    kept values run in their order, so that all three servers keep the same."""
    return not any(
        job.ordered and other.ordered and other.request.client == job.request.client
        for batch in running
        for other in batch.present
    )


def has_place(job: Job, running: Sequence[Batch], waiting: Iterable[Job], now: float) -> bool:
    """Whether a free place is for this job. waiting: all that have not begun."""
    if not running:
        return True
    under_way = [other for batch in running for other in batch.present]
    clients = {other.request.client for other in under_way}
    if job.request.client in clients and any(other.request.client not in clients for other in waiting):
        return False
    return now > job.since + JOIN_SECONDS or not any(together(job, other) for other in under_way)
