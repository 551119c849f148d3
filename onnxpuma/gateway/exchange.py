"""An HTTP exchange: who asks, what is answered, and a client that goes away meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from onnxpuma.errors import OnnxpumaError
from onnxpuma.gateway.allowance import Lease, Unlimited
from onnxpuma.gateway.catalogue import Catalogue
from onnxpuma.gateway.keys import Keyring
from onnxpuma.gateway.refusal import Refused, body_of, headers_of, status_of

CLIENT_GONE = 499  # nobody reads it; nginx's number
NAMED_SESSIONS = 64  # in a header

T = TypeVar("T")
Handler = Callable[["Exchange"], Awaitable[Response]]
_log = logging.getLogger("onnxpuma.gateway")


class ClientGone(Exception):
    """The client has closed the connection before its answer was complete."""


class Exchange:
    """One request, of a caller that may ask."""

    def __init__(self, request: Request, caller: Lease | Unlimited) -> None:
        self.request, self.caller = request, caller
        self.models: Catalogue = request.app.state.models

    async def json(self) -> bytes:
        """The body. Raises Refused unless it is declared as JSON: a browser sends other types across sites
        without asking first."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(
                f"the body is of type {kind or 'unknown'}",
                "send the header `Content-Type: application/json`",
                status=415,
            )
        return await self.request.body()

    async def present(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled if the client goes away. Raises ClientGone then."""
        return await while_connected(self.request.receive, work)


def api(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for callers that have a key, if keys are needed; its errors have OpenAI's form."""

    async def endpoint(request: Request) -> Response:
        try:
            keys: Keyring | None = request.app.state.keys
            caller = Unlimited() if keys is None else keys.caller(request.headers.get("authorization"))
            caller.ask()
            return await handler(Exchange(request, caller))
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        except OnnxpumaError as error:
            return refused(error)
        except Exception as error:
            return refused(fault(error))

    return endpoint


def answered(body: Mapping[str, Any]) -> JSONResponse:
    """A whole answer; a header names the runs behind it."""
    return JSONResponse(body, headers=sessions_header(body["onnxpuma"]))


def sessions_header(figures: Mapping[str, Any]) -> dict[str, str]:
    """The sessions of the runs behind an answer, for which servers signed receipts; of the latest, if there
    are too many for a header."""
    sessions = figures.get("sessions", [])[-NAMED_SESSIONS:]
    return {"onnxpuma-sessions": ", ".join(sessions)} if sessions else {}


def refused(error: OnnxpumaError) -> JSONResponse:
    """The answer with this error."""
    return JSONResponse(body_of(error), status_of(error), headers_of(error))


def fault(error: Exception) -> OnnxpumaError:
    """An error for the client in place of one of the gateway's own, whose text may quote a request. The log
    gets its type and its place."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    _log.error("a request failed: %s at %s", type(error).__name__, place)
    return OnnxpumaError(f"the gateway has failed: {type(error).__name__}", "its log says where")


class EventStream(StreamingResponse):
    """Server-sent events, one for each object; an error after the first is an event too. `[DONE]` ends them.

    done: whether to send `[DONE]`, as OpenAI does for texts.
    """

    def __init__(self, objects: AsyncGenerator[dict[str, Any]], done: bool = True) -> None:
        self._objects = objects
        super().__init__(_events(objects, done), media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Accel-Buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self.stream_response(send))
        except ClientGone:
            return
        finally:
            await self._objects.aclose()


async def _events(objects: AsyncGenerator[dict[str, Any]], done: bool) -> AsyncGenerator[bytes]:
    try:
        async for each in objects:
            kind = f"event: {each['type']}\n" if not done else ""
            yield f"{kind}data: {json.dumps(each, ensure_ascii=False)}\n\n".encode()
    except OnnxpumaError as error:
        yield f"data: {json.dumps(body_of(error))}\n\n".encode()
    except Exception as error:
        yield f"data: {json.dumps(body_of(fault(error)))}\n\n".encode()
    if done:
        yield b"data: [DONE]\n\n"


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`; if the client goes away first, `work` is cancelled. Raises ClientGone then."""
    job, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise ClientGone
        return job.result()
    finally:
        for each in (job, gone):
            each.cancel()
        await asyncio.wait({job, gone})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
