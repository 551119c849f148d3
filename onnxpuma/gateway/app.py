"""The gateway as an ASGI application: its addresses, and what stands before them."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onnxpuma import __version__
from onnxpuma.gateway.catalogue import Catalogue
from onnxpuma.gateway.embeddings import embeddings
from onnxpuma.gateway.exchange import Exchange, api, refused
from onnxpuma.gateway.guard import Guard
from onnxpuma.gateway.keys import Keyring
from onnxpuma.gateway.refusal import Refused
from onnxpuma.gateway.speech import transcriptions, translations
from onnxpuma.gateway.texts import chat_completions, completions

_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def gateway(
    models: Catalogue,
    keys: Keyring | None = None,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
) -> Starlette:
    """The application for these models.

    keys: callers that may ask; None for anybody. hosts: names by which it may be called, beside addresses and
    localhost. origins: of web pages that may ask, beside its own. The caller closes `models` afterwards.
    """
    routes = [
        Route("/v1/models", api(_models)),
        Route("/v1/models/{name:path}", api(_model)),
        Route("/v1/chat/completions", api(chat_completions), methods=["POST"]),
        Route("/v1/completions", api(completions), methods=["POST"]),
        Route("/v1/embeddings", api(embeddings), methods=["POST"]),
        Route("/v1/audio/transcriptions", api(transcriptions), methods=["POST"]),
        Route("/v1/audio/translations", api(translations), methods=["POST"]),
        Route("/health", _health),
        *(Route(f"/{path}", _page) for path in _PAGE),
    ]
    middleware = [Middleware(Guard, hosts=hosts, origins=origins)]
    if origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            )
        )
    app = Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _unknown})
    app.state.models, app.state.keys = models, keys
    return app


async def _models(exchange: Exchange) -> Response:
    """All models."""
    models = exchange.models
    return JSONResponse({"object": "list", "data": [models.entry(name) for name in models.names]})


async def _model(exchange: Exchange) -> Response:
    """One model."""
    return JSONResponse(exchange.models.entry(exchange.request.path_params["name"]))


async def _health(request: Request) -> Response:
    """Whether the gateway answers; it says nothing of the servers."""
    return JSONResponse({"status": "ok", "version": __version__})


async def _page(request: Request) -> Response:
    """The page for people, and its parts."""
    name, kind = _PAGE[request.url.path.removeprefix("/")]
    content = files("onnxpuma.gateway").joinpath("page").joinpath(name).read_bytes()
    return Response(content, headers={"Content-Type": kind})


async def _unknown(request: Request, error: Exception) -> Response:
    """What no address of the gateway is for."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = f"{request.method} {request.url.path}"
    return refused(
        Refused(
            f"there is no {what} here" if status != 405 else f"{what} is not possible",
            "docs/gateway.md lists the addresses of the gateway",
            status=status,
            code="unknown_url",
        )
    )
