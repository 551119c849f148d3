"""One party's shares of a model, opened: its keys, the words if it holds them, both of one sharing."""

from __future__ import annotations

import hashlib
import hmac
import logging
import stat
from pathlib import Path

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.arrays import empty
from onnxpuma.mpc.ring.words import Words
from onnxpuma.mpc.sharing import KEYED
from onnxpuma.roles.shared.keys_file import PARTIES_WITH_WORDS, KeysFile, keys_name
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.tags import Tagging, Tags
from onnxpuma.roles.shared.words_file import WORDS, FileSource, WordsFile, damaged
from onnxpuma.transport.link import PARTIES

_BLOCK = 1 << 22  # bytes that are read and checked at a time

_log = logging.getLogger("onnxpuma.roles")


class Shares:
    """What one party has of the weights. No word is read until somebody asks for it.

    Components that are key streams are made from `keys`, array number `indices[name]` (mpc/sharing.py);
    component 2 is read from `source` or, whole and checked, from `words` or `packed`.

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
        self._sources: dict[str, WordsSource] = {}
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

    def source(self, name: str) -> WordsSource:
        """The packed words of component 2 of this array, for parties 1 and 2; to be read at any place."""
        if name not in self._sources:
            self._sources[name] = WordsSource(self._file, name, self._tags)
        return self._sources[name]

    def packed(self, name: str) -> memoryview:
        """All bytes of `source`, checked. PlanError when they are damaged."""
        source = self.source(name)
        check, stream = source.passing(), empty(source.size, 8).data
        for start in range(0, source.size, _BLOCK):
            block = stream[start : start + _BLOCK]
            source.read(start, block)
            if check is not None:
                check.update(block)
        if check is not None:
            check.finish()
        return stream

    def words(self, name: str) -> Words:
        """Component 2 of this array, checked. PlanError when it is damaged."""
        shape, format = self.tensors[name]
        return ring.unpack(self.packed(name), format.bits, shape)

    def limit_pages(self, streamed: int, room: int) -> None:
        """Let the system keep as much of the words as `room` bytes of memory hold, where every run reads
        `streamed` bytes of them."""
        if self._words is not None:
            self._words.pages.limit(streamed, room)

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


class WordsSource(FileSource):
    """The words of one array, as mpc/forms/source.py reads them: the first reader that reads all of them
    checks them, and nobody does again as long as nobody writes to the file."""

    def __init__(self, file: WordsFile, name: str, tags: Tags) -> None:
        within = file.source(name)
        super().__init__(within.file, within.pages, within.offset, within.size)
        self._words, self._name, self._tags = file, name, tags
        self._sound: tuple[int, ...] | None = None  # the stamp of the file when these words were checked

    def passing(self) -> Check | None:
        """The check of the whole array, whose bytes are about to pass; None where none is due."""
        stamp = self._words.stamp
        return None if stamp == self._sound else Check(self, stamp)

    def tagging(self) -> Tagging:
        """A new computation of the tag."""
        return self._tags.tagging(self._name)

    def accept(self, tag: bytes, stamp: tuple[int, ...]) -> None:
        """Note that the words with this tag are sound, in the file of this stamp; or PlanError."""
        if not hmac.compare_digest(tag, self._tags.tags[self._name]):
            raise damaged(self._words.path, f"the words of '{self._name}' are not those that its owner wrote")
        self._sound = stamp


class Check:
    """Compares the words of one array with their tag, as they pass from the first to the last."""

    def __init__(self, source: WordsSource, stamp: tuple[int, ...]) -> None:
        """stamp: of the file before the first byte was read."""
        self._source, self._stamp = source, stamp
        self._tagging = source.tagging()

    def update(self, data: memoryview) -> None:
        """The next bytes, each once."""
        self._tagging.update(data)

    def finish(self) -> None:
        """After the last byte: PlanError unless they are the bytes that the owner wrote."""
        self._source.accept(self._tagging.finish(), self._stamp)


def strange_files(folder: Path, party: int) -> list[str]:
    """The files in the folder of a shared model that this party must not have: with its own they are the
    weights, or allow to test guesses of them."""
    names = [keys_name(other) for other in range(PARTIES) if other != party]
    names += [] if party in PARTIES_WITH_WORDS else [WORDS]
    return [name for name in names if (folder / name).exists()]


def _warn_of_readers(path: Path) -> None:
    """Whoever reads these files and another party's has the weights."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning(
            "users other than its owner may read the shares %s (mode %04o): chmod 600 %s", path, mode, path
        )
