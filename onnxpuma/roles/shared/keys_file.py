"""The file of one party's keys: the small part of a sharing, which no other party may see.

JSON, written as policy.json is. Bytes are hexadecimal.

    format     "onnxpuma-keys"
    version    of their form (versions.py)
    party      whose file it is
    digest     of the model
    dealing    16 random bytes, drawn each time a model is shared
    keys       of the components that this party draws from a key (mpc/sharing.py): party 0 has both, the
               others have one
    seals      for each component that this party holds, a key that the two holders alone have
               (server/identity.py)
    secret     parties 1 and 2 alone: for the tags of the words (tags.py)
    tags       parties 1 and 2 alone: of each array, in the order of the words
    checksum   SHA-256 of the file with zeros in place of these 64 digits

The checksum covers every bit; a reader refuses a file that does not match it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxpuma.errors import PlanError
from onnxpuma.mpc.prf import KEY_BYTES, fresh_key
from onnxpuma.mpc.sharing import KEYED, components_of
from onnxpuma.plan.policy_file import written
from onnxpuma.roles.shared.tags import SECRET_BYTES, TAG_BYTES, Tags
from onnxpuma.transport.link import PARTIES
from onnxpuma.versions import FILES

FORMAT = "onnxpuma-keys"
PARTIES_WITH_WORDS = (1, 2)
DEALING_BYTES = 16
SEAL_BYTES = 32
LONGEST_FILE = 100_000_000  # bytes; a million arrays stay below it
_ZEROS = "0" * 64


def keys_name(party: int) -> str:
    """The name of the party's file in the folder of a shared model."""
    return f"party{party}.keys"


def keys_of(party: int) -> tuple[int, ...]:
    """The components that this party draws from a key."""
    return tuple(c for c in components_of(party) if c in KEYED)


@dataclass(frozen=True)
class Dealing:
    """What an owner draws for one sharing; fresh each time, so that no key serves two."""

    id: str  # hex
    keys: tuple[bytes, ...] = field(repr=False)  # of components 0 and 1
    seals: tuple[bytes, ...] = field(repr=False)  # of the three components
    secret: bytes = field(repr=False)  # for tags

    @classmethod
    def fresh(cls) -> Dealing:
        return cls(
            secrets.token_hex(DEALING_BYTES),
            tuple(fresh_key() for _ in KEYED),
            tuple(secrets.token_bytes(SEAL_BYTES) for _ in range(PARTIES)),
            secrets.token_bytes(SECRET_BYTES),
        )

    def keys_file(self, party: int, digest: str, tags: Mapping[str, bytes]) -> bytes:
        """The content of the party's file. digest: of the model. tags: of all arrays."""
        entries: dict[str, Any] = {
            "format": FORMAT,
            "version": FILES,
            "party": party,
            "digest": digest,
            "dealing": self.id,
            "keys": {str(c): self.keys[c].hex() for c in keys_of(party)},
            "seals": {str(c): self.seals[c].hex() for c in components_of(party)},
        }
        if party in PARTIES_WITH_WORDS:
            entries["secret"] = self.secret.hex()
            entries["tags"] = {name: tag.hex() for name, tag in tags.items()}
        return sealed(entries)


def sealed(entries: Mapping[str, Any]) -> bytes:
    """The text of these entries, with their checksum."""
    checksum = hashlib.sha256(written({**entries, "checksum": _ZEROS})).hexdigest()
    return written({**entries, "checksum": checksum})


@dataclass(frozen=True)
class KeysFile:
    """What one party's file says."""

    party: int
    dealing: str  # hex
    keys: Mapping[int, bytes] = field(repr=False)  # by component
    seals: Mapping[int, bytes] = field(repr=False)  # by component
    tags: Tags | None = field(repr=False)  # None at party 0

    @classmethod
    def read(cls, path: Path, party: int, digest: str, arrays: Iterable[str]) -> KeysFile:
        """Read the file of `party`. arrays: the names of the model's arrays, in their order.

        Raises PlanError when it is missing or damaged, or belongs to another party, model or version.
        """
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST_FILE)
        except OSError as error:
            raise PlanError(
                f"there is no file {path} that can be read: {error.strerror}",
                f"`onnxpuma share` writes it: copy it from the model's owner into {path.parent}",
            ) from error
        try:
            entries = json.loads(content)
            del entries["checksum"]
            if sealed(entries) != content:
                raise ValueError("checksum")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, f"it does not match its checksum ({type(error).__name__})") from error
        _check_owner(path, entries, party, digest)
        try:
            found = cls._of(party, entries)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, "it lacks keys that this party holds") from error
        if found.tags is not None and list(found.tags.tags) != list(arrays):
            raise _damaged(path, "its arrays are not the model's")
        return found

    @classmethod
    def _of(cls, party: int, entries: Mapping[str, Any]) -> KeysFile:
        """Raises an exception of Python's own where an entry is missing or malformed."""
        keys = {c: _bytes(entries["keys"].pop(str(c)), KEY_BYTES) for c in keys_of(party)}
        seals = {c: _bytes(entries["seals"].pop(str(c)), SEAL_BYTES) for c in components_of(party)}
        if entries["keys"] or entries["seals"]:
            raise ValueError("keys of other parties")
        tags = None
        if party in PARTIES_WITH_WORDS:
            listed = {name: _bytes(tag, TAG_BYTES) for name, tag in entries["tags"].items()}
            tags = Tags(_bytes(entries["secret"], SECRET_BYTES), listed)
        return cls(party, _bytes(entries["dealing"], DEALING_BYTES).hex(), keys, seals, tags)


def _bytes(text: str, count: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != count:
        raise ValueError(len(found))
    return found


def _check_owner(path: Path, entries: Mapping[str, Any], party: int, digest: str) -> None:
    if entries.get("format") != FORMAT:
        raise _damaged(path, "it is no file of keys")
    if entries.get("version") != FILES:
        raise PlanError(
            f"{path} was made with onnxpuma {entries.get('version')}, this reads the files of {FILES}",
            "install the same version as its owner, or share the model again",
        )
    if entries.get("party") != party:
        raise PlanError(
            f"{path} holds the keys of party {entries.get('party')}, this is party {party}",
            "give each party the file with its number",
        )
    if entries.get("digest") != digest:
        raise PlanError(
            f"{path} belongs to another model than the skeleton beside it",
            "copy skeleton.onnx, policy.json and the party's keys from one and the same folder",
        )


def _damaged(path: Path, why: str) -> PlanError:
    return PlanError(f"{path} is damaged: {why}", "copy it again from the model's owner")
