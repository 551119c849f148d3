"""What the gateway says instead of an answer: an error in OpenAI's form, its HTTP status and the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from onnxpuma.errors import (
    AuthenticationError,
    BusyError,
    InputError,
    OnnxpumaError,
    RemoteError,
    RequestTimeoutError,
    TooLongError,
    TransportError,
    UnreliableError,
    UnsupportedModelError,
)

RETRY_SECONDS = 2.0  # where nothing is known of how long a server stays busy

# The status of each error, and OpenAI's type of it; the first class that fits counts.
_STATUS: tuple[tuple[type[OnnxpumaError], int, str, str], ...] = (
    (TooLongError, 400, "invalid_request_error", "context_length_exceeded"),
    (InputError, 400, "invalid_request_error", "invalid_input"),
    (UnsupportedModelError, 400, "invalid_request_error", "unsupported_model"),
    (BusyError, 429, "rate_limit_error", "servers_busy"),
    (RequestTimeoutError, 504, "server_error", "servers_timed_out"),
    (AuthenticationError, 503, "server_error", "gateway_not_admitted"),
    (RemoteError, 502, "server_error", "server_failed"),
    (TransportError, 503, "server_error", "servers_unreachable"),
    (UnreliableError, 500, "server_error", "unreliable_result"),
    (OnnxpumaError, 500, "server_error", "server_error"),
)


class Refused(InputError):
    """A request that the gateway itself refuses.

    param: the field that is wrong. retry: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        message: str,
        hint: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status, self.kind, self.param, self.code, self.retry = status, kind, param, code, retry


class Busy(BusyError):
    """More requests wait at the gateway than it lets wait; `retry` seconds later one may find a place."""

    def __init__(self, message: str, retry: float) -> None:
        super().__init__(message, f"try again in {math.ceil(retry)} s")
        self.retry = retry


def unknown_model(name: str, known: Mapping[str, object]) -> Refused:
    return Refused(
        f"there is no model '{name}'",
        f"this gateway has {', '.join(known)}",
        status=404,
        param="model",
        code="model_not_found",
    )


def invalid(error: ValidationError) -> Refused:
    """The first mistake that pydantic found, without the value, which may be private."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return Refused(
            f"'{param}' is no field of this request",
            "omit it: docs/gateway.md lists what the gateway knows",
            param=param,
            code="unknown_parameter",
        )
    return Refused(f"{param or 'the request'}: {first['msg']}", "correct this field", param=param or None)


def status_of(error: OnnxpumaError) -> int:
    """The HTTP status of an answer with this error."""
    return error.status if isinstance(error, Refused) else _row(error)[0]


def body_of(error: OnnxpumaError) -> dict[str, Any]:
    """The error as OpenAI's clients read it: {"error": {message, type, param, code}}."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, Refused):
        kind, param, code = error.kind, error.param, error.code
    else:
        (_, kind, code), param = _row(error), None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def headers_of(error: OnnxpumaError) -> dict[str, str]:
    """Retry-After where a later attempt may succeed."""
    retry = getattr(error, "retry", None)
    if retry is None and isinstance(error, BusyError):
        retry = RETRY_SECONDS
    return {} if retry is None else {"Retry-After": str(max(1, math.ceil(retry)))}


def _row(error: OnnxpumaError) -> tuple[int, str, str]:
    return next((status, kind, code) for each, status, kind, code in _STATUS if isinstance(error, each))
