"""Errors on their way to another machine: class, message and hint travel; a traceback does not."""

from __future__ import annotations

import errno
import math

from onnxpuma import errors
from onnxpuma.errors import BusyError, OnnxpumaError, PlanError, RemoteError, TransportError, plain_text
from onnxpuma.transport import wire_pb2


def told(error: BaseException) -> OnnxpumaError:
    """The error to log and send in place of `error`.

    The text of an error from outside this package may contain data, so only its class is disclosed.
    """
    if isinstance(error, OnnxpumaError):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return PlanError(
            "the server has not enough memory for this request",
            "ask for a smaller batch or a shorter sequence, or give the servers more memory",
        )
    return RemoteError(f"internal error ({type(error).__name__})", "that server's log says more")


def line_of(error: BaseException) -> str:
    """What may be logged of an error, in one line: its text may quote names from a client."""
    return plain_text(told(error).message)


def failure_of(error: BaseException) -> wire_pb2.Failure:
    """`told(error)` as a message."""
    said = told(error)
    failure = wire_pb2.Failure(error=type(said).__name__, message=said.message, hint=said.hint)
    if isinstance(said, BusyError):
        failure.retry_after = said.retry_after or 0.0
    return failure


def error_of(failure: wire_pb2.Failure, server: int) -> OnnxpumaError:
    """The error that `server` reports, in the class it had there; RemoteError for a class unknown here.

    Whatever the server sent, the text becomes one line that is safe for a terminal and a log.
    """
    kind = getattr(errors, failure.error, None)
    if not (isinstance(kind, type) and issubclass(kind, OnnxpumaError)):
        kind = RemoteError
    origin = f"server {server}: " if issubclass(kind, TransportError) else ""
    said = origin + plain_text(failure.message), plain_text(failure.hint)
    if issubclass(kind, BusyError) and math.isfinite(failure.retry_after) and failure.retry_after > 0:
        return kind(*said, failure.retry_after)
    return kind(*said)


def most_telling(reports: list[OnnxpumaError]) -> OnnxpumaError:
    """Of several reports of one failure, the one nearest to its cause.

    When a request fails at one server, the others can only report that they were told to stop.
    """
    return min(reports, key=_distance)


def _distance(error: OnnxpumaError) -> int:
    if not isinstance(error, TransportError):
        return 0
    if isinstance(error, errors.StoppingError):
        return 1
    return 3 if isinstance(error, RemoteError | errors.RequestTimeoutError) else 2
