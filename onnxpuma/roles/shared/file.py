"""The file of one party's shares of the weights: safetensors, written and read a block at a time.

Components 0 and 1 are AES key streams (mpc/prf.py) and need no bytes: party 0 receives their two keys and
nothing else, parties 1 and 2 receive one key each and component 2 in full. The tensors of a file are the
words of component 2, packed to the bits of their format, under the weights' names in the blueprint's order.
The metadata, numbers in hexadecimal:

    format              "onnxpuma-shares"
    party               whose file it is
    digest              of the model
    version             of the package
    dealing             16 random bytes, drawn each time a model is shared
    key0, key1          of the components that this party holds
    seal0, seal1, seal2 of the components that this party holds; no other party has them (server/identity.py)
    words               SHA-256 of the words
    checksum            SHA-256 of the head, with zeros in place of these 64 digits

The two hashes cover every bit of the file; a reader refuses a file that does not match them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma import __version__
from onnxpuma.errors import PlanError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.ring.arrays import empty
from onnxpuma.mpc.ring.words import Words
from onnxpuma.mpc.sharing import KEYED, components_of
from onnxpuma.plan.draft import PRIVATE, Draft

FORMAT = "onnxpuma-shares"
PARTIES_WITH_WORDS = (1, 2)
LONGEST_HEAD = 100_000_000  # the limit of safetensors itself
_CHECKSUM = re.compile(rb'"checksum":"[0-9a-f]{64}"')
_BLANK = b'"checksum":"' + b"0" * 64 + b'"'
_BLOCK = 1 << 22  # bytes that are read and hashed at a time

Tensors = Mapping[str, tuple[tuple[int, ...], Format]]  # weight -> its shape, and the format of its words

_log = logging.getLogger("onnxpuma.roles")


def share_path(folder: Path, party: int) -> Path:
    """Where the shares of `party` lie in the folder of a shared model."""
    return folder / f"party{party}.safetensors"


def keys_of(party: int) -> tuple[int, ...]:
    """The components that this party draws from a key."""
    return tuple(c for c in components_of(party) if c in KEYED)


def tensor_entries(party: int, tensors: Tensors) -> dict[str, Any]:
    """The entries for tensors in the head of the party's file."""
    entries: dict[str, Any] = {}
    place = 0
    for name, (shape, format) in tensors.items() if party in PARTIES_WITH_WORDS else ():
        size = format.bytes(int(np.prod(shape, dtype=np.int64)))
        plain = format.bits == 8 * format.word.itemsize  # else safetensors has no type for its words
        dtype, stored = (f"U{format.bits}", list(shape)) if plain else ("U8", [size])
        entries[name] = {"dtype": dtype, "shape": stored, "data_offsets": [place, place + size]}
        place += size
    return entries


class ShareWriter:
    """Writes one party's file as a draft, mode 0600; `finish` and then `commit` put it in its place."""

    def __init__(
        self,
        folder: Path,
        party: int,
        tensors: Tensors,  # all weights, in the order in which `append` receives their words
        keys: Sequence[bytes],  # of components 0 and 1
        seals: Sequence[bytes],  # of all three components
        digest: str,
        dealing: str,
    ) -> None:
        self._words = hashlib.sha256()
        self._metadata = {
            "format": FORMAT,
            "party": str(party),
            "digest": digest,
            "version": __version__,
            "dealing": dealing,
            **{f"key{c}": keys[c].hex() for c in keys_of(party)},
            **{f"seal{c}": seals[c].hex() for c in components_of(party)},
        }
        self._tensors = tensor_entries(party, tensors)
        self._draft = Draft(share_path(folder, party), PRIVATE)
        try:
            self._draft.file.write(self._header())
        except BaseException:
            self._draft.discard()
            raise

    def append(self, words: Words, bits: int) -> None:
        """The next words of component 2: as many as fill whole bytes, or the last ones of a weight."""
        data = ring.pack(words, bits).data
        self._words.update(data)
        self._draft.file.write(data)

    def finish(self) -> None:
        """After the last word: write the checksums and flush everything to the disk."""
        self._draft.file.seek(0)
        self._draft.file.write(self._header())
        self._draft.finish()

    def commit(self) -> None:
        """Take the place of an older file."""
        self._draft.commit()

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        self._draft.discard()

    def _header(self) -> bytes:
        """The head of the safetensors file; its length does not depend on the words."""
        metadata = {**self._metadata, "words": self._words.hexdigest(), "checksum": "0" * 64}
        text = json.dumps({"__metadata__": metadata, **self._tensors}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        head = len(text).to_bytes(8, "little") + text
        return head.replace(_BLANK, f'"checksum":"{hashlib.sha256(head).hexdigest()}"'.encode(), 1)


class ShareReader:
    """Opens one party's file and checks its head.

    Raises PlanError when the file is missing or damaged, or belongs to another party, model or version.
    """

    def __init__(self, folder: Path, party: int, digest: str, tensors: Tensors) -> None:
        self.path = share_path(folder, party)
        self._tensors = tensors
        self._words = hashlib.sha256()
        try:
            self._file: BufferedReader = self.path.open("rb")
        except OSError as error:
            raise PlanError(
                f"there is no file {self.path} that can be read: {error.strerror}",
                f"`onnxpuma share` writes it: copy it from the model's owner into {folder}",
            ) from error
        self._warn_of_readers()
        try:
            head = self._read_head()
            metadata = head.pop("__metadata__")
            self.dealing = bytes.fromhex(metadata["dealing"]).hex()
            self._expected = bytes.fromhex(metadata["words"])
            seals = {c: bytes.fromhex(metadata[f"seal{c}"]) for c in range(3) if f"seal{c}" in metadata}
            held = {c: bytes.fromhex(metadata[f"key{c}"]) for c in range(2) if f"key{c}" in metadata}
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(f"it does not begin as it should ({type(error).__name__})") from error
        self._check_owner(metadata, party, digest)
        if tuple(held) != keys_of(party) or set(seals) != set(components_of(party)):
            raise self._damaged("it lacks keys that this party holds")
        if head != tensor_entries(party, tensors):
            raise self._damaged("its weights are not the model's")
        self.keys, self.seals = held, seals

    def words(self, name: str) -> Words:
        """Component 2 of one weight. Call it for the weights in their order: the file is read as a stream."""
        shape, format = self._tensors[name]
        stream = empty(format.bytes(int(np.prod(shape, dtype=np.int64))), 8)
        view = stream.data
        for start in range(0, len(view), _BLOCK):
            block = view[start : start + _BLOCK]
            if self._file.readinto(block) != len(block):
                raise self._damaged("it is cut short")
            self._words.update(block)
        return ring.unpack(stream, format.bits, shape)

    def finish(self) -> None:
        """After the last word: PlanError when the words differ from those that were written."""
        more = self._file.read(1)
        self._file.close()
        if more or self._words.digest() != self._expected:
            raise self._damaged("its words do not match its checksum")

    @property
    def contents(self) -> dict[int, bytes]:
        """For each component that this party holds: SHA-256 of its key or of its words."""
        return {
            c: hashlib.sha256(self.keys[c]).digest() if c in KEYED else self._expected for c in self.seals
        }

    def _warn_of_readers(self) -> None:
        """Whoever reads this file and another party's has the weights."""
        mode = stat.S_IMODE(os.fstat(self._file.fileno()).st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            _log.warning(
                "users other than its owner may read the shares %s (mode %04o): chmod 600 %s",
                self.path,
                mode,
                self.path,
            )

    def _read_head(self) -> dict[str, Any]:
        """The head, with a checksum that matches. Raises ValueError or TypeError for any other bytes."""
        prefix = self._file.read(8)
        length = int.from_bytes(prefix, "little")
        if not 0 < length <= LONGEST_HEAD:
            raise ValueError(length)
        text = self._file.read(length)
        found = _CHECKSUM.findall(text)
        checksum = hashlib.sha256(prefix + _CHECKSUM.sub(_BLANK, text)).hexdigest()
        if found != [f'"checksum":"{checksum}"'.encode()]:
            raise ValueError("checksum")
        head = json.loads(text)
        if not isinstance(head, dict):
            raise TypeError(type(head))
        return head

    def _check_owner(self, metadata: Mapping[str, str], party: int, digest: str) -> None:
        if metadata.get("format") != FORMAT or metadata.get("party") != str(party):
            raise PlanError(
                f"{self.path} holds the shares of party {metadata.get('party')}, this is party {party}",
                "give each party the file with its number",
            )
        if metadata.get("version") != __version__:
            raise PlanError(
                f"{self.path} was made with onnxpuma {metadata.get('version')}, this is {__version__}",
                "install the same version everywhere, or share the model again",
            )
        if metadata.get("digest") != digest:
            raise PlanError(
                f"{self.path} belongs to another model than the skeleton beside it",
                "copy skeleton.onnx, policy.json and the party's file from one and the same folder",
            )

    def _damaged(self, why: str) -> PlanError:
        self._file.close()
        return PlanError(f"{self.path} is damaged: {why}", "copy it again from the model's owner")
