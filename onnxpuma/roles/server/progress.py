"""What party 0 tells clients of a run while it computes."""

from __future__ import annotations

import time

from onnxpuma.observe import Progress
from onnxpuma.roles.server.job import Batch
from onnxpuma.roles.server.run import shares_of
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import ClientPort
from onnxpuma.transport.link import Link

TELL_SECONDS = 0.2  # between two messages of a run, on average: its clients share them


def told_progress(batch: Batch, link: Link, port: ClientPort, began: float) -> Progress:
    """Tells the clients of a batch how far their run is, and each its part of the bytes sent. began: on the
    monotonic clock."""
    told, before = 0.0, -1
    shares = shares_of([job.plan for job in batch.present])
    pause = TELL_SECONDS * len(shares)

    def progress(done: int, of: int, label: str) -> None:
        nonlocal told, before
        now = time.monotonic()
        if before < 0:  # the opening does not count
            before = link.traffic.bytes_sent
        if link.party == 0 and now > told + pause:
            told = now
            sent = link.traffic.bytes_sent - before
            for job, share in zip(batch.present, shares, strict=True):
                standing = wire_pb2.Progress(step=done, steps=of, label=label, seconds=now - began)
                standing.bytes_sent = round(share * sent)
                port.reply(job.request, standing)

    return progress
