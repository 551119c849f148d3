"""keys.toml: who may use the gateway, and how much. It holds digests of the keys, never the keys.

[[key]]
name = "alice"
sha256 = "..."                # or env = "ALICES_KEY", a variable that holds the key itself
requests_per_minute = 60      # these three may be left out: no limit
tokens_per_minute = 20000
most_tokens = 1000            # that one request may have written
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from onnxpuma.errors import ConfigError
from onnxpuma.gateway.allowance import Lease
from onnxpuma.gateway.refusal import Refused

PREFIX = "sk-onnxpuma-"
_LIMITS = ("requests_per_minute", "tokens_per_minute", "most_tokens")
_KNOWN = ("name", "sha256", "env", *_LIMITS)


class Keyring:
    """The callers by the digest of their key."""

    def __init__(self, callers: Mapping[str, Lease]) -> None:
        self._callers = dict(callers)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(caller.name for caller in self._callers.values())

    def caller(self, authorization: str | None) -> Lease:
        """The caller with the key in this header. Raises Refused for any other."""
        scheme, _, key = (authorization or "").partition(" ")
        # The digests are looked up, so the time of the look-up tells nothing of a key.
        found = self._callers.get(digest_of(key.strip())) if scheme.lower() == "bearer" else None
        if found is None:
            raise Refused(
                "the API key is missing" if not key else "the API key is not known here",
                "send the header `Authorization: Bearer KEY`; `onnxpuma gateway-key` makes a key",
                status=401,
                kind="authentication_error",
                code="invalid_api_key",
            )
        return found


def read_keys(path: Path, environment: Mapping[str, str] = os.environ) -> Keyring:
    """Read keys.toml. Raises ConfigError for a file that is missing, is not TOML or has a wrong entry."""
    try:
        tables = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}", f"make a key: onnxpuma gateway-key NAME --keys {path}"
        ) from None
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "correct that line") from None
    rows = tables.get("key", [])
    if set(tables) - {"key"} or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path} has something other than [[key]] tables", "write one for each caller")
    callers: dict[str, Lease] = {}
    for place, row in enumerate(rows):
        digest, lease = _entry(row, f"{path}: key {place + 1}", environment)
        if digest in callers or any(lease.name == other.name for other in callers.values()):
            raise ConfigError(f"{path}: two callers have the name or the key of {lease.name}", "remove one")
        callers[digest] = lease
    if not callers:
        raise ConfigError(f"{path} has no key", f"make one: onnxpuma gateway-key NAME --keys {path}")
    return Keyring(callers)


def new_key(path: Path, name: str, limits: Mapping[str, int | None]) -> str:
    """A fresh key for `name`, whose digest is added to keys.toml; the key itself is written nowhere.

    Raises ConfigError for a file that cannot be read or written, and for a name that it has already.
    """
    if not re.fullmatch(r"[\w.@-]{1,64}", name):
        raise ConfigError(f"{name!r} is no name for a caller", "use letters, digits, and . _ - @")
    document = tomlkit.document()
    if path.exists():
        if name in read_keys(path).names:
            raise ConfigError(f"{path} has a key for {name} already", "remove it, or choose another name")
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    key = PREFIX + secrets.token_urlsafe(32)
    table = tomlkit.table()
    table["name"], table["sha256"] = name, digest_of(key)
    for limit, value in limits.items():
        if value is not None:
            table[limit] = value
    rows = document.setdefault("key", tomlkit.aot())
    rows.append(table)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(tomlkit.dumps(document))
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}", "name a file in a folder of yours") from None
    return key


def _entry(row: Mapping[str, Any], where: str, environment: Mapping[str, str]) -> tuple[str, Lease]:
    for name in row:
        if name not in _KNOWN:
            raise ConfigError(f"{where}: {name} is not a known entry", f"known: {', '.join(_KNOWN)}")
    owner = row.get("name")
    if not isinstance(owner, str) or not owner:
        raise ConfigError(f"{where} has no name", 'write name = "alice"')
    limits = {limit: row.get(limit) for limit in _LIMITS}
    for limit, value in limits.items():
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{where}: {limit} is {value!r}", "write a whole number, 1 or more")
    return _key_digest(row, where, environment), Lease(
        owner, limits["requests_per_minute"], limits["tokens_per_minute"], limits["most_tokens"]
    )


def _key_digest(row: Mapping[str, Any], where: str, environment: Mapping[str, str]) -> str:
    if ("sha256" in row) == ("env" in row):
        raise ConfigError(f"{where} needs either sha256 or env", "sha256: the key's digest; env: a variable")
    if "env" in row:
        key = environment.get(str(row["env"]), "")
        if len(key) < 16:
            raise ConfigError(
                f"{where}: the variable {row['env']} holds no key of 16 characters or more", "set it"
            )
        return digest_of(key)
    digest = str(row["sha256"]).lower()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigError(f"{where}: sha256 is no digest", "write 64 hexadecimal digits")
    return digest


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
