"""keygen and init: the keys of those who take part, and the cluster.toml that lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxpuma.commands import screen
from onnxpuma.errors import ConfigError

PARTIES = 3
PEER_PORT, CLIENT_PORT = 7000, 7100  # of the first server on a host; the next ones follow
PUBLIC, SECRET, KEY_LENGTH = ".public", ".secret", 40
_HINT = (
    "write --party alice=alice.example.org:alice.public --client ann=ann.public; quote a key that is no file"
)


def keygen(
    name: Annotated[
        Path,
        typer.Argument(help="Writes NAME.secret, NAME.public and NAME.signing.", show_default=False),
    ],
    owner: Annotated[
        bool,
        typer.Option(
            "--owner", help="Of a model's owner: what servers hand over for an audit is sealed to it."
        ),
    ] = False,
) -> None:
    """Generate a key pair, and a key that signs receipts. Each server and each client generates its own,
    on its own machine.
    """
    if owner:
        from onnxpuma.transport.sealing import OwnerKey

        made = OwnerKey.generate()
        made.write(name)
        screen.say(f"{screen.plain(name)}.secret  opens what servers hand over: keep it offline")
        screen.say(f"{screen.plain(name)}.public  {screen.plain(made.public)}")
        screen.note(f"share the model with it: onnxpuma share MODEL --owner {name}.public")
        return
    from onnxpuma.transport.signing import keygen_with_signing

    pair, signing = keygen_with_signing(name)
    screen.say(f"{screen.plain(name)}.secret  stays on this machine, readable by you alone")
    screen.say(f"{screen.plain(name)}.public  {screen.plain(pair.public)}")
    screen.say(f"{screen.plain(name)}.signing of a server signs receipts: {screen.plain(signing.public)}")


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("cluster.toml"),
    party: Annotated[
        list[str],
        typer.Option(
            "--party",
            metavar="NAME=HOST:KEY",
            help="A server: its name, its host, and its public key or .public file. Three times, in order.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  (typer makes a new one)
    client: Annotated[
        list[str],
        typer.Option(
            "--client",
            metavar="NAME=KEY",
            help="A client: its name, and its public key or the .public file. May be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
) -> None:
    """Write a commented cluster.toml for three servers, ready to use or to be filled in."""
    from onnxpuma.cluster_template import write_cluster_template
    from onnxpuma.config import PartyConfig, read_cluster

    if party and len(party) != PARTIES:
        raise ConfigError(f"--party names {len(party)} of three servers", "name all three, or none")
    servers = [_server(text) for text in party]
    hosts = [host for _, host, _ in servers]
    parties = []
    for i, (name, host, key) in enumerate(servers):
        place = hosts[:i].count(host)
        ports = PEER_PORT + place, CLIENT_PORT + place
        parties.append(PartyConfig(name, host, *ports, _key(key), signing_key=_signing_key(key)))
    clients = dict(_named("--client", text, "NAME=KEY") for text in client)
    write_cluster_template(path, parties or None, {name: _key(key) for name, key in clients.items()} or None)
    if parties and clients:
        try:
            read_cluster(path)
        except ConfigError:
            path.unlink()
            raise
    screen.say(f"Wrote {screen.plain(path)}.")
    missing = [] if parties else ["the three hosts and their public keys"]
    missing += [] if clients else ["the public keys of the clients"]
    if missing:
        screen.note(f"Fill in {' and '.join(missing)}, then copy the same file to servers and clients.")
    else:
        screen.note("Copy the same file to the servers and the clients.")


def _server(text: str) -> tuple[str, str, str]:
    """NAME=HOST:KEY as its three parts; a key may itself contain = and :, so it is taken from the end."""
    name, rest = _named("--party", text, "NAME=HOST:KEY")
    cut = rest.rfind(":") if rest.endswith(PUBLIC) else len(rest) - KEY_LENGTH - 1
    if cut < 1 or rest[cut] != ":":
        host, colon, key = rest.rpartition(":")
        if host and key.endswith(SECRET):
            raise ConfigError(
                f"--party {name} names the secret key {key}",
                "name the .public file that keygen wrote with it",
            )
        if host and colon and key:
            raise ConfigError(
                f"the key of --party {name}, {key!r}, is neither a public key nor a .public file", _HINT
            )
        raise ConfigError(f"--party {text} is not NAME=HOST:KEY", _HINT)
    return name, rest[:cut], rest[cut + 1 :]


def _named(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not name.strip() or not equals or not rest:
        raise ConfigError(f"{option} {text} is not {form}", _HINT)
    return name.strip(), rest


def _key(text: str) -> str:
    """A public key, or the content of its file."""
    from onnxpuma.transport.curve import check_public_key, read_public_key

    return (
        read_public_key(Path(text)) if text.endswith(PUBLIC) else check_public_key(text, "the command line")
    )


def _signing_key(text: str) -> str:
    """The public signing key that a .public file names; "" for a key without a file."""
    from onnxpuma.transport.signing import read_public_signing_key

    return read_public_signing_key(Path(text)) if text.endswith(PUBLIC) else ""
