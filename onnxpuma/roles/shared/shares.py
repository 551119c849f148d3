"""One party's shares of a model, opened: its keys, the words if it holds them, both of one sharing."""

from __future__ import annotations

import hashlib
import logging
import stat
from pathlib import Path

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.arrays import empty
from onnxpuma.mpc.ring.words import Words
from onnxpuma.mpc.sharing import KEYED
from onnxpuma.roles.shared.keys_file import PARTIES_WITH_WORDS, KeysFile, keys_name
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.tags import Tags
from onnxpuma.roles.shared.words_file import WORDS, FileSource, WordsFile, damaged

_BLOCK = 1 << 22  # bytes that are read and checked at a time

_log = logging.getLogger("onnxpuma.roles")


class Shares:
    """What one party has of the weights. No word is read until somebody asks for it.

    Components that are key streams are made from `keys`, array number `indices[name]` (mpc/sharing.py);
    component 2 is read from `source` or, whole and checked, from `words`.

    Raises PlanError when a file is missing or damaged, or belongs to another party, model, sharing or
    version.
    """

    def __init__(self, folder: Path, party: int, model: SharedModel) -> None:
        self.party = party
        self.tensors = model.tensors
        self.indices = {name: index for index, name in enumerate(self.tensors)}
        path = folder / keys_name(party)
        self._keys = KeysFile.read(path, party, model.digest, self.tensors)
        _warn_of_readers(path)
        self._words: WordsFile | None = None
        if party in PARTIES_WITH_WORDS:
            self._words = WordsFile(folder / WORDS, self.tensors, model.digest, self._keys.dealing)
            _warn_of_readers(self._words.path)
        self.dealing, self.keys, self.seals = self._keys.dealing, self._keys.keys, self._keys.seals

    @property
    def contents(self) -> dict[int, bytes]:
        """For each component that this party holds, 32 bytes that its other holder has if it holds the same:
        of a key SHA-256, of words SHA-256 over their tags and the tags' secret."""
        return {
            c: hashlib.sha256(self.keys[c]).digest() if c in KEYED else self._tags.code for c in self.seals
        }

    def source(self, name: str) -> FileSource:
        """The packed words of component 2 of this array, for parties 1 and 2. Nobody has checked them: a
        reader passes them all to a `Check` before it trusts any."""
        return self._file.source(name)

    def check(self, name: str) -> Check:
        """For a reader of the words of this array, once from the first byte to the last."""
        return Check(self._file.path, name, self._tags)

    @property
    def stamp(self) -> tuple[int, ...]:
        """As long as this stays the same, words that were checked need no check again."""
        return self._file.stamp

    def words(self, name: str) -> Words:
        """Component 2 of this array, checked. PlanError when it is damaged."""
        shape, format = self.tensors[name]
        source, check = self.source(name), self.check(name)
        stream = empty(source.size, 8)
        for start in range(0, source.size, _BLOCK):
            block = stream.data[start : start + _BLOCK]
            source.read(start, block)
            check.update(block)
        check.finish()
        return ring.unpack(stream, format.bits, shape)

    def close(self) -> None:
        """No word can be read any more; keys remain."""
        if self._words is not None:
            self._words.close()

    @property
    def _file(self) -> WordsFile:
        assert self._words is not None, "party 0 has no words"
        return self._words

    @property
    def _tags(self) -> Tags:
        assert self._keys.tags is not None, "party 0 has no words"
        return self._keys.tags


class Check:
    """Compares the words of one array with their tag, as they pass."""

    def __init__(self, path: Path, name: str, tags: Tags) -> None:
        self._path, self._name = path, name
        self._expected = tags.tags[name]
        self._tagging = tags.tagging(name)

    def update(self, data: memoryview) -> None:
        """The next bytes; from the first to the last, each once."""
        self._tagging.update(data)

    def finish(self) -> None:
        """After the last byte: PlanError unless they are the bytes that the owner wrote."""
        if not self._tagging.agrees(self._expected):
            raise damaged(self._path, f"the words of '{self._name}' are not those that its owner wrote")


def _warn_of_readers(path: Path) -> None:
    """Whoever reads these files and another party's has the weights."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning(
            "users other than its owner may read the shares %s (mode %04o): chmod 600 %s", path, mode, path
        )
