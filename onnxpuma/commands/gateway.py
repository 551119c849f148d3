"""gateway and gateway-key: the OpenAI HTTP API on this machine, answered by three servers."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import canary, options, screen, trios
from onnxpuma.errors import ConfigError

INSTALL = "pip install 'onnxpuma[gateway,tasks]'"


def gateway(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Exported models, each to run on three servers on this machine.",
            show_default=False,
        ),
    ] = None,
    clusters: Annotated[
        list[Path],
        typer.Option(
            "--cluster", metavar="FILE", help="Use the servers of this cluster.toml. May be repeated."
        ),
    ] = [],  # noqa: B006  (typer makes a new one)
    keys: Annotated[
        list[Path],
        typer.Option(
            "--key", metavar="FILE", help="Your .secret file for each --cluster; by default beside it."
        ),
    ] = [],  # noqa: B006
    tokenizers: Annotated[
        list[Path],
        typer.Option(
            "--tokenizer",
            metavar="FOLDER",
            help="Tokenizer and configuration for each --cluster; the model is called like this folder.",
        ),
    ] = [],  # noqa: B006
    models: Annotated[
        list[str],
        typer.Option(
            "--model", metavar="NAME", help="For each --cluster, if their servers have several models."
        ),
    ] = [],  # noqa: B006
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", metavar="keys.toml", help="Who may ask, and how much; `gateway-key` writes it."
        ),
    ] = None,
    allow_host: Annotated[
        list[str],
        typer.Option("--allow-host", metavar="NAME", help="A name by which the gateway may be called."),
    ] = [],  # noqa: B006
    allow_origin: Annotated[
        list[str],
        typer.Option("--allow-origin", metavar="ORIGIN", help="Web pages that may ask: https://example.org."),
    ] = [],  # noqa: B006
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="For HTTPS, in PEM.")
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option("--certificate-key", metavar="FILE", help="Its secret key.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="Requests that a trio of servers gets at a time.")
    ] = 16,
    canaries: Annotated[
        list[Path],
        typer.Option(
            "--canaries",
            metavar="FILE",
            help="For each --cluster, requests with known answers, sent among those of your users.",
        ),
    ] = [],  # noqa: B006
    rate: canary.Rate = 0.05,
    audit_all: canary.AuditAll = False,
    audits: canary.Audits = Path(),
    receipts: options.Receipts = None,
    threads: options.Threads = 1,
    memory: options.Memory = None,
    public_input: options.ShownInput = [],  # noqa: B006
) -> None:
    """Answer OpenAI's HTTP API with models that run on three servers. Stop it with Ctrl-C or SIGTERM."""
    folders = folders or []
    allowed = options.read_memory(memory)
    _check(folders, clusters, keys, tokenizers, models, canaries, allowed is not None)
    try:
        from onnxpuma.gateway.guard import is_loopback
        from onnxpuma.gateway.keys import read_keys
        from onnxpuma.gateway.serving import listen
    except ImportError as error:
        raise ConfigError(f"the gateway needs the library {error.name}", f"install it: {INSTALL}") from error
    if (certificate is None) != (certificate_key is None):
        raise ConfigError("--certificate and --certificate-key go together", "give both or neither")
    options.check_receipts(receipts)
    ring = None if api_keys is None else read_keys(api_keys)
    if ring is None and not is_loopback(host):
        raise ConfigError(
            f"anybody who reaches {host} could use the gateway",
            "give --keys keys.toml, or listen at 127.0.0.1; `onnxpuma gateway-key NAME` makes a key",
        )
    if not is_loopback(host) and certificate is None:
        screen.note(
            f"texts travel to {host} without encryption: give --certificate, or put a proxy before it"
        )
    place = listen(host, port)
    try:
        mixings = [canary.read_mixing(file, rate, audit_all, audits, spread=True) for file in canaries]
        elsewhere = trios.listed(clusters, keys, tokenizers, models, mixings)
        with trios.made(folders, elsewhere, workers, threads, allowed, public_input, receipts) as every:
            from onnxpuma.gateway.app import gateway as application
            from onnxpuma.gateway.catalogue import Catalogue
            from onnxpuma.gateway.serving import Listener

            catalogue = Catalogue(every)
            names = [*allow_host, *([] if _is_address(host) else [host])]
            app = application(catalogue, ring, names, allow_origin)
            listener = Listener(app, certificate=certificate, certificate_key=certificate_key, log=True)

            async def serve() -> None:
                with screen.progress("connecting to the servers"):
                    problems = await catalogue.greet()
                for name, error in problems.items():
                    screen.note(f"{name}: {error.message}; each request tries again")
                scheme = "http" if certificate is None else "https"
                shown = f"[{host}]" if ":" in host else host
                url = f"{scheme}://{shown}:{place.getsockname()[1]}"
                await listener.at(
                    place,
                    lambda: screen.announce(
                        f"ready: {url}/v1 has {screen.plain(', '.join(catalogue.names))}; people use {url}/"
                    ),
                )

            asyncio.run(serve())
    finally:
        place.close()
    screen.note("the gateway has stopped")


def gateway_key(
    name: Annotated[str, typer.Argument(help="Who gets the key.", show_default=False)],
    keys: Annotated[
        Path, typer.Option("--keys", metavar="FILE", help="Where the gateway looks it up.")
    ] = Path("keys.toml"),
    requests: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="No limit by default.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=1, help="Read and written; no limit by default.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most-tokens", min=1, help="Written in one request; no limit by default.")
    ] = None,
) -> None:
    """Make an API key for the gateway. It is printed once; the file gets its digest and its limits."""
    try:
        from onnxpuma.gateway.keys import new_key
    except ImportError as error:
        raise ConfigError(f"the gateway needs the library {error.name}", f"install it: {INSTALL}") from error
    limits = {"requests_per_minute": requests, "tokens_per_minute": tokens, "most_tokens": most}
    screen.say(screen.plain(new_key(keys, name, limits)))
    screen.note(f"{name} is in {keys}; a running gateway reads the file when it starts again")


def _check(
    folders: Sequence[Path],
    clusters: Sequence[Path],
    keys: Sequence[Path],
    tokenizers: Sequence[Path],
    models: Sequence[str],
    canaries: Sequence[Path],
    memory: bool,
) -> None:
    if not folders and not clusters:
        raise ConfigError(
            "which models?", "onnxpuma gateway FOLDER, or --cluster cluster.toml --tokenizer FOLDER"
        )
    if len(tokenizers) != len(clusters):
        raise ConfigError(
            f"{len(clusters)} --cluster and {len(tokenizers)} --tokenizer",
            "the servers have the model, but no tokenizer: name a folder with one for each cluster, in order",
        )
    if len(keys) not in (0, 1, len(clusters)) or (keys and not clusters):
        raise ConfigError(
            f"{len(keys)} --key for {len(clusters)} --cluster", "give one for each in order, or one for all"
        )
    if len(models) not in (0, len(clusters)):
        raise ConfigError(
            f"{len(models)} --model for {len(clusters)} --cluster",
            'give one for each in order, "" where the servers have only one',
        )
    if len(canaries) not in (0, len(clusters)):
        raise ConfigError(
            f"{len(canaries)} --canaries for {len(clusters)} --cluster",
            "give one for each in order; servers on this machine need none",
        )
    if memory and not folders:
        raise ConfigError("--memory is for servers on this machine", "omit it with --cluster")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
