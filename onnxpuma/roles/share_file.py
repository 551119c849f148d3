"""The file that holds one party's shares of the weights: safetensors, written a block at a time.

Components 0 and 1 are key streams of AES (mpc/prf.py), so they need no bytes: party 0 is given their two
keys and nothing else, parties 1 and 2 one key each and component 2 in full. The tensors of a file are the
words of component 2, 64 bits each, under the names of the weights. Its metadata:

    format "onnxpuma-shares", party, digest (of the blueprint), version, dealing (32 random hex digits, drawn
    each time the model is shared), key0 / key1 (hex; those this party holds), crc32 (of the words, hex)
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError, safe_open

from onnxpuma import __version__
from onnxpuma.errors import PlanError
from onnxpuma.mpc.words import Words

FORMAT = "onnxpuma-shares"
PARTIES_WITH_WORDS = (1, 2)


def share_path(folder: Path, party: int) -> Path:
    """Where the shares of `party` lie in the folder of a shared model."""
    return folder / f"party{party}.safetensors"


def keys_of(party: int) -> tuple[int, ...]:
    """The components, 0 or 1, that this party makes from a key."""
    return tuple(c for c in (party, (party + 1) % 3) if c < 2)


class ShareWriter:
    """Writes one party's file under a temporary name, mode 0600; `commit` gives it its own.

    shapes: of all weights, in the order in which their words will be appended. keys: of components 0 and 1.
    """

    def __init__(
        self,
        folder: Path,
        party: int,
        shapes: Mapping[str, tuple[int, ...]],
        keys: Sequence[bytes],
        digest: str,
        dealing: str,
    ) -> None:
        self._path = share_path(folder, party)
        self._partial = folder / f".{self._path.name}.partial"
        self._crc = 0
        self._metadata = {
            "format": FORMAT,
            "party": str(party),
            "digest": digest,
            "version": __version__,
            "dealing": dealing,
            **{f"key{c}": keys[c].hex() for c in keys_of(party)},
        }
        self._shapes = shapes if party in PARTIES_WITH_WORDS else {}
        self._partial.unlink(missing_ok=True)
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._file.write(self._header())

    def append(self, words: Words) -> None:
        """The next words of component 2."""
        data = words.astype("<u8", copy=False).data.cast("B")
        self._crc = zlib.crc32(data, self._crc)
        self._file.write(data)

    def commit(self) -> None:
        """All words are there: write the checksum, and take the place of an older file."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._partial, self._path)

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _header(self) -> bytes:
        """The head of a safetensors file; of the same length whatever the checksum."""
        entries: dict[str, object] = {"__metadata__": {**self._metadata, "crc32": f"{self._crc:08x}"}}
        place = 0
        for name, shape in self._shapes.items():
            size = 8
            for length in shape:
                size *= length
            entries[name] = {"dtype": "U64", "shape": list(shape), "data_offsets": [place, place + size]}
            place += size
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


class ShareReader:
    """Opens one party's file and checks that it is the one it should be.

    Raises PlanError when it is missing or damaged, belongs to another party, model or version, or lacks a
    weight.
    """

    def __init__(self, folder: Path, party: int, digest: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path = share_path(folder, party)
        if not self.path.is_file():
            raise PlanError(
                f"there is no file {self.path}",
                f"`onnxpuma share` makes it: copy it from the model's owner into {folder}",
            )
        self._shapes = shapes
        try:
            self._file = safe_open(self.path, framework="np")
            metadata = self._file.metadata() or {}
            self.keys = {c: bytes.fromhex(metadata[f"key{c}"]) for c in keys_of(party)}
            self._crc = int(metadata["crc32"], 16)
            self.dealing = metadata["dealing"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self._damaged(str(error)) from error
        if metadata.get("format") != FORMAT or metadata.get("party") != str(party):
            raise PlanError(
                f"{self.path} holds the shares of party {metadata.get('party')}, this is party {party}",
                "give each party the file that bears its number",
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
        if party in PARTIES_WITH_WORDS:
            self._check_shapes()

    def words(self, name: str) -> Words:
        """Component 2 of one weight."""
        try:
            words: Words = self._file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise self._damaged(str(error)) from error
        return words

    def check(self, crc: int) -> None:
        """`crc`: the CRC-32 of all words, in the order of the file."""
        if crc != self._crc:
            raise self._damaged("its words do not match its checksum")

    def _check_shapes(self) -> None:
        here = set(self._file.keys())
        if here != set(self._shapes):
            odd = ", ".join(sorted(here ^ set(self._shapes))[:3])
            raise self._damaged(f"its weights are not the model's ({odd})")
        for name, shape in self._shapes.items():
            found = self._file.get_slice(name)
            if tuple(found.get_shape()) != shape or found.get_dtype() != "U64":
                raise self._damaged(f"weight '{name}' has shape {tuple(found.get_shape())}, not {shape}")

    def _damaged(self, why: str) -> PlanError:
        return PlanError(f"{self.path} is damaged: {why}", "copy it again from the model's owner")
