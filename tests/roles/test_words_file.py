"""Reading words at any place: by several threads, for any width; and when they are checked."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from onnxpuma.errors import PlanError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.roles.shared.keys_file import Dealing
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares
from onnxpuma.roles.shared.tags import Tags
from onnxpuma.roles.shared.weights import open_shares
from onnxpuma.roles.shared.words_file import WORDS, WordsFile, WordsWriter, size_of

DIGEST = "ab" * 32
TENSORS = {
    "narrow": ((300, 7), Format(40, 18)),
    "nothing": ((0, 4), Format(64, 18)),
    "one": ((), Format(46, 18)),
    "bits": ((13,), Format(3, 0)),
    "plain": ((50, 9), Format(64, 18)),
    "short": ((11, 3), Format(32, 14)),
    "last": ((257,), Format(48, 18)),
}
RNG = np.random.default_rng(5)
CONTENT = {n: RNG.bytes(format.bytes(int(np.prod(shape)))) for n, (shape, format) in TENSORS.items()}


@pytest.fixture
def dealt(tmp_path: Path) -> tuple[WordsFile, Tags]:
    """A file of all these arrays, and the tags of its writer."""
    dealing = Dealing.fresh()
    writer = WordsWriter(tmp_path, TENSORS, DIGEST, dealing)
    for name, content in CONTENT.items():
        writer.begin(name)
        for start in range(0, len(content), 1000):
            writer.append(memoryview(content)[start : start + 1000])
    tags = Tags(dealing.secret, writer.finish())
    writer.commit()
    assert (tmp_path / WORDS).stat().st_size == size_of(TENSORS, DIGEST)
    return WordsFile(tmp_path / WORDS, TENSORS, DIGEST, dealing.id), tags


def test_any_part_of_any_array(dealt: tuple[WordsFile, Tags]) -> None:
    file, _ = dealt
    for name, content in CONTENT.items():
        source = file.source(name)
        assert source.size == len(content)
        for start in range(0, len(content), max(1, len(content) // 5)):
            for length in {0, 1, (len(content) - start) // 2, len(content) - start}:
                out = bytearray(length)
                source.read(start, memoryview(out))
                assert out == content[start : start + length]


def test_threads_do_not_disturb_each_other(dealt: tuple[WordsFile, Tags]) -> None:
    file, _ = dealt
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(2000):
        name = str(rng.choice(["narrow", "plain", "last"]))
        start = int(rng.integers(len(CONTENT[name])))
        cases.append((name, start, int(rng.integers(len(CONTENT[name]) - start))))

    def read(case: tuple[str, int, int]) -> bool:
        name, start, length = case
        out = bytearray(length)
        file.source(name).read(start, memoryview(out))
        return out == CONTENT[name][start : start + length]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, cases))


def test_each_array_has_its_own_tag_whatever_the_pieces(dealt: tuple[WordsFile, Tags]) -> None:
    _, tags = dealt
    assert len(set(tags.tags.values())) == len(TENSORS)
    for name, content in CONTENT.items():
        for piece in (1, 7, 16, 100_000):
            tagging = tags.tagging(name)
            for start in range(0, len(content), piece):
                tagging.update(memoryview(content)[start : start + piece])
            assert tagging.finish() == tags.tags[name]
    same = tags.tagging("plain")
    same.update(memoryview(CONTENT["last"]))
    assert same.finish() != tags.tags["last"]


def test_the_same_words_under_another_secret_have_other_tags(dealt: tuple[WordsFile, Tags]) -> None:
    _, tags = dealt
    other = Tags(Dealing.fresh().secret, tags.tags)
    tagging = other.tagging("plain")
    tagging.update(memoryview(CONTENT["plain"]))
    assert tagging.finish() != tags.tags["plain"]
    assert other.code != tags.code
    fewer = dict(list(tags.tags.items())[:-1])
    assert Tags(tags.secret, fewer).code != tags.code
    assert "secret" not in repr(tags)


def shares_of(model_dir: Path, folder: Path) -> tuple[Shares, Path]:
    shutil.copytree(model_dir, folder)
    return open_shares(folder, 1, SharedModel.read(folder)), folder / WORDS


def test_what_was_checked_is_not_checked_again_until_somebody_writes(model_dir: Path, tmp_path: Path) -> None:
    shares, path = shares_of(model_dir, tmp_path / "copied")
    source = shares.source("kernel")
    assert source.passing() is not None
    words = shares.words("kernel")
    assert source.passing() is None
    assert shares.source("table").passing() is not None
    assert np.array_equal(shares.words("kernel"), words)
    assert np.array_equal(ring.pack(words, 64), np.frombuffer(shares.packed("kernel"), np.uint8))
    os.utime(path)
    assert source.passing() is not None
    shares.words("kernel")
    assert source.passing() is None
    with path.open("r+b") as file:
        file.seek(source.offset)
        first = file.read(1)
        file.seek(source.offset)
        file.write(bytes([first[0] ^ 1]))
    with pytest.raises(PlanError, match="the words of 'kernel' are not those"):
        shares.words("kernel")
    assert source.passing() is not None, "a check that fails is remembered by nobody"


def test_a_check_that_saw_too_little_fails(model_dir: Path, tmp_path: Path) -> None:
    shares, _ = shares_of(model_dir, tmp_path / "copied")
    check = shares.source("table").passing()
    assert check is not None
    check.update(shares.packed("table")[:-1])
    with pytest.raises(PlanError, match="the words of 'table'"):
        check.finish()


def test_a_file_that_changes_while_it_is_checked_is_checked_again(model_dir: Path, tmp_path: Path) -> None:
    shares, path = shares_of(model_dir, tmp_path / "copied")
    source = shares.source("table")
    check = source.passing()
    assert check is not None
    content = bytearray(source.size)
    source.read(0, memoryview(content))
    check.update(memoryview(content))
    os.utime(path)
    check.finish()
    assert source.passing() is not None
