"""CURVE key pairs: generated, written, read and checked. A public key alone identifies a party or a client.

A key is 32 bytes, written as 40 characters of Z85 text (ZeroMQ RFC 32), which need no escaping in a TOML
string. A line of a key file that starts with "#" is a comment; no key starts with it, since no group of Z85
may exceed 2^32.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from onnxpuma.errors import ConfigError

SECRET_PREFIX = "ONNXPUMA-SECRET-KEY-"
_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret key as Z85 text; the repr omits the secret key."""

    public: str
    secret: str = field(repr=False)


def generate() -> KeyPair:
    """A fresh key pair from the operating system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def check_public_key(text: str, where: str) -> str:
    """Return `text` if it can be a public key; `where` tells the error message where it was found.

    Raises ConfigError when it is not 40 characters of Z85, or is a secret key.
    """
    if text.startswith(SECRET_PREFIX):
        raise ConfigError(
            f"{where} contains a secret key where a public key belongs",
            "that secret key is no longer secret: generate a new pair with `onnxpuma keygen` and put its"
            " public key here",
        )
    if not _is_key(text):
        raise ConfigError(
            f"{where} is not a public key: {text!r}",
            "a public key has 40 characters; copy it from the .public file that `onnxpuma keygen` wrote",
        )
    return text


def keygen(path: Path, comment: str = "") -> KeyPair:
    """Generate a key pair and write it to `<path>.secret` (mode 0600) and `<path>.public`.

    comment: lines that start with "#", for the `.public` file. Raises ConfigError when one of the files
    exists or cannot be written.
    """
    pair = generate()
    secret_file, public_file = Path(f"{path}.secret"), Path(f"{path}.public")
    write_key_file(
        secret_file,
        "# onnxpuma secret key. Keep it on this machine, readable by its owner alone.\n"
        f"# Its public key: {pair.public}\n"
        f"{SECRET_PREFIX}{pair.secret}\n",
        mode=0o600,
    )
    try:
        write_key_file(
            public_file,
            "# onnxpuma public key. Put it into the cluster.toml of those who must recognise its owner.\n"
            f"{pair.public}\n{comment}",
            mode=0o644,
        )
    except ConfigError:
        secret_file.unlink()
        raise
    return pair


def read_secret_key(path: Path) -> KeyPair:
    """Read the key pair of a `.secret` file.

    Raises ConfigError when the file is missing, can be read by anyone but its owner, or has no secret key.
    """
    line = read_key_line(path, SECRET_PREFIX)
    secret = line.removeprefix(SECRET_PREFIX)
    if secret == line or not _is_key(secret):
        raise ConfigError(
            f"{path} contains no secret key",
            "name the .secret file that `onnxpuma keygen` wrote, not the .public one",
        )
    return KeyPair(zmq.curve_public(secret.encode()).decode(), secret)


def read_public_key(path: Path) -> str:
    """Read the public key of a `.public` file; ConfigError when the file is missing or has none."""
    return check_public_key(read_key_line(path), str(path))


def _is_key(text: str) -> bool:
    if not _Z85.fullmatch(text):
        return False
    try:
        return len(z85.decode(text)) == 32
    except (ValueError, struct.error):  # a group beyond 2^32
        return False


def write_key_file(path: Path, text: str, mode: int) -> None:
    """Write a new file. ConfigError when it exists or cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already, and keys are never overwritten",
            "choose another name, or move the old key away",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", "choose a folder that you can write to"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def read_key_line(path: Path, secret_prefix: str = "") -> str:
    """The one line of a key file that is no comment.

    secret_prefix: how a secret key begins, if it may be one. Raises ConfigError when the file cannot be
    read, has other than one key, or is a secret key that others than its owner may read.
    """
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no key file {path}", "name yours, or generate a pair with `onnxpuma keygen`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the key file {path}: {error}", "name a file that `onnxpuma keygen` wrote"
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    holds_secret = secret_prefix and any(key.startswith(secret_prefix) for key in keys)
    if holds_secret and status.st_mode & _forbidden(status):
        raise ConfigError(
            f"others than its owner may read the secret key {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            f"chmod 600 {path}; if others have read it, generate a new pair with `onnxpuma keygen`",
        )
    if len(keys) != 1:
        raise ConfigError(
            f"{path} contains {len(keys)} keys instead of one", "name a file that `onnxpuma keygen` wrote"
        )
    return keys[0]


def _forbidden(status: os.stat_result) -> int:
    """The bits that the mode of a secret key must not have. systemd and Kubernetes hand a key to a service as
    a file of root's that the service may read as its group."""
    handed = status.st_uid == 0 and os.geteuid() != 0
    return stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if handed else stat.S_IRWXG)
