"""What stands before every request: whose web pages may ask, how long a body may be, what a browser may do.

A page of a stranger, open in the browser of somebody who runs a gateway, can reach 127.0.0.1. Three checks
keep it out: the Host header must be an address or a name that the gateway knows, which stops a name that is
rebound to this address; the Origin header, which browsers add, must be the gateway's own or an allowed one;
and no CORS header is sent unless an origin was allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnxpuma.gateway.exchange import refused
from onnxpuma.gateway.refusal import Refused

MOST_BYTES = 32 << 20  # of a request's body; OpenAI takes recordings of 25 MB

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Wraps an application. hosts: names by which it may be called. origins: web pages that may ask."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] = (), origins: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["scheme"])
        except Refused as error:
            await refused(error)(scope, receive, guarded)
            return
        await self._app(scope, _limited(receive), guarded)

    def _check(self, headers: Headers, scheme: str) -> None:
        host = headers.get("host", "")
        if not self._is_known(_name(host)):
            raise Refused(
                f"the gateway is not known as '{host}'",
                "call it by its address, or start it with --allow-host NAME",
                status=403,
                kind="permission_error",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and origin != f"{scheme}://{host}" and origin not in self._origins:
            raise Refused(
                "web pages of another origin may not ask this gateway",
                f"start it with --allow-origin {origin}",
                status=403,
                kind="permission_error",
                code="origin_not_allowed",
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            raise too_long()

    def _is_known(self, name: str) -> bool:
        """An address cannot be rebound: no name was looked up."""
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def too_long() -> Refused:
    return Refused(
        f"the request is longer than {MOST_BYTES >> 20} MiB",
        "send less at a time",
        status=413,
        code="too_long",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _limited(receive: Receive) -> Receive:
    """Receives as `receive` does; raises Refused when a body without a declared length gets too long."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > MOST_BYTES:
            raise too_long()
        return message

    return limited
