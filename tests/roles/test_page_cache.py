"""Pages of the words: a share of each array stays, and the rest is given up behind the reading."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onnxpuma.roles.shared import page_cache
from onnxpuma.roles.shared.page_cache import PageCache

SIZE, BLOCK, LAG = 1000, 100, 250


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The places and sizes that the system was told to give up."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(page_cache, "LAG", LAG)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, place, size, how: found.append((place, size)))
    return found


def read(pages: PageCache, arrays: int) -> None:
    for array in range(arrays):
        for start in range(0, SIZE, BLOCK):
            pages.passed((array * SIZE, SIZE), start, BLOCK)


def test_everything_stays_where_it_fits(given_up: list[tuple[int, int]]) -> None:
    pages = PageCache(0)
    read(pages, 3)
    pages.limit(3 * SIZE, 3 * SIZE)
    read(pages, 3)
    assert not given_up


def test_a_share_of_each_array_stays(given_up: list[tuple[int, int]]) -> None:
    pages = PageCache(0)
    pages.limit(4 * SIZE, 4 * SIZE * 3 // 5 + LAG)  # so 600 bytes of each
    read(pages, 4)
    due = [(array * SIZE + start, BLOCK) for array in range(4) for start in range(600, SIZE, BLOCK)]
    behind = len(due) - LAG // BLOCK
    assert given_up == due[:behind]  # the last two blocks are still within the lag
    read(pages, 4)
    assert given_up == (due + due)[: 2 * len(due) - LAG // BLOCK]


@pytest.mark.parametrize("room", [0, LAG])
def test_too_little_room_keeps_nothing(given_up: list[tuple[int, int]], room: int) -> None:
    pages = PageCache(0)
    pages.limit(SIZE, room)
    read(pages, 1)
    assert [place for place, _ in given_up] == list(range(0, SIZE - LAG // BLOCK * BLOCK, BLOCK))


def test_what_was_given_up_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "LAG", 0)
    path = tmp_path / "words"
    path.write_bytes(os.urandom(1 << 16))
    with path.open("rb", buffering=0) as file:
        pages = PageCache(file.fileno())
        pages.limit(1 << 16, 0)
        for _ in range(2):
            assert os.pread(file.fileno(), 1 << 16, 0) == path.read_bytes()
            pages.passed((0, 1 << 16), 0, 1 << 16)
