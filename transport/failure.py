"""Errors on their way to another machine: class, message and hint travel, a traceback does not."""

from __future__ import annotations

from onnxpuma import errors
from onnxpuma.errors import OnnxpumaError, RemoteError, TransportError
from onnxpuma.transport import wire_pb2


def failure_of(error: BaseException) -> wire_pb2.Failure:
    """What to tell others about `error`.

    The text of an error that is not of this package may contain data, so only its class is told.
    """
    if isinstance(error, OnnxpumaError):
        return wire_pb2.Failure(error=type(error).__name__, message=error.message, hint=error.hint)
    return wire_pb2.Failure(
        error=RemoteError.__name__,
        message=f"internal error ({type(error).__name__})",
        hint="the log of that server says more",
    )


def error_of(failure: wire_pb2.Failure, server: int) -> OnnxpumaError:
    """The error that `server` reports, in the class it had there; RemoteError for a class unknown here."""
    kind = getattr(errors, failure.error, None)
    if not (isinstance(kind, type) and issubclass(kind, OnnxpumaError)):
        kind = RemoteError
    origin = f"server {server}: " if issubclass(kind, TransportError) else ""
    return kind(origin + failure.message, failure.hint)


def most_telling(reports: list[OnnxpumaError]) -> OnnxpumaError:
    """Of several reports of one failure the one nearest to its cause.

    Where a request fails at one server, the others can only say that they were told to stop.
    """
    return min(reports, key=_distance)


def _distance(error: OnnxpumaError) -> int:
    if not isinstance(error, TransportError):
        return 0
    return 2 if isinstance(error, RemoteError | errors.RequestTimeoutError) else 1
