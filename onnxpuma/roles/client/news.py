"""What the servers tell while a request waits and runs, for the caller's report of progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from onnxpuma.observe import Progress, Standing
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import News

Watch: TypeAlias = Callable[[Standing], None]


def relay(progress: Progress) -> Watch:
    """The report of a plain progress."""
    return lambda now: progress(now.done, now.steps, now.label)


def told(watch: Watch) -> Callable[[int, News], None]:
    """Passes on what server 0 says."""

    def news(server: int, what: News) -> None:
        if server == 0 and isinstance(what, wire_pb2.Progress):
            watch(Standing(what.step, what.steps, what.label, what.bytes_sent, what.seconds))
        elif server == 0 and isinstance(what, wire_pb2.Queued):
            watch(Standing(0, 1, f"{what.ahead} requests wait before this one"))

    return news
