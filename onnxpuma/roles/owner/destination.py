"""The folder that receives a shared model: all files appear there or none, and none is replaced unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import POLICY, SKELETON
from onnxpuma.plan.draft import PRIVATE, drafts_of
from onnxpuma.roles.shared.keys_file import keys_name
from onnxpuma.roles.shared.model import GRAPH_NAME, INDEX
from onnxpuma.roles.shared.words_file import WORDS, WordsWriter
from onnxpuma.transport.link import PARTIES

# There while files move to their places. If a process is killed meanwhile, those in place belong to no model.
MOVING = ".moving"


def check_free(folder: Path, replace: bool) -> None:
    """ConfigError for a folder that already holds a shared model, unless `replace` is set. What a killed
    process moved there is no model."""
    held = [path.name for path in _layout(folder) if os.path.lexists(path)]
    if held and not replace and not os.path.lexists(folder / MOVING):
        raise ConfigError(
            f"{folder} already holds a shared model ({', '.join(held[:3])}): a server may be using it",
            "choose another folder, or say --replace (in Python replace=True)",
        )


def check_space(folder: Path, needed: int) -> None:
    """ConfigError unless the disk of the folder has this many bytes free."""
    there = os.statvfs(folder)
    free = there.f_bavail * there.f_frsize
    if free < needed:
        raise ConfigError(
            f"the disk of {folder} has {free:,} bytes free, the shares of this model take {needed:,}",
            "make room there, or choose a folder on another disk",
        )


def settle(folder: Path, words: WordsWriter, keys: Mapping[str, bytes], public: Mapping[str, bytes]) -> None:
    """Move the words, which are finished, and the files of keys and the public files (path in the folder ->
    content) to their places once all are on the disk, and remove the other files of the model that lay there.
    If an OSError is raised before that, nothing was moved."""
    before = _earlier(folder)
    drafts = drafts_of(folder, keys, PRIVATE)
    try:
        drafts += drafts_of(folder, public)
        os.close(os.open(folder / MOVING, os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE))
        words.commit()
        for draft in drafts:
            draft.commit()
    finally:
        for draft in drafts:
            draft.discard()
    for path in before:
        if str(path.relative_to(folder)) not in public:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it is the folder itself, or holds other files
                path.parent.rmdir()
    (folder / MOVING).unlink()


def _layout(folder: Path) -> list[Path]:
    """The paths of the files that a model may have."""
    keys = [folder / keys_name(party) for party in range(PARTIES)]
    return [folder / SKELETON, folder / POLICY, folder / INDEX, folder / WORDS, *keys]


def _earlier(folder: Path) -> list[Path]:
    """The public files of the model that was shared into this folder before."""
    found = [folder / SKELETON, folder / POLICY, folder / INDEX]
    try:
        names = [str(name) for name in json.loads((folder / INDEX).read_bytes())["graphs"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        names = []
    inner = [folder / name for name in names if GRAPH_NAME.fullmatch(name)]
    inner = [path for path in inner if path.is_dir() and not path.is_symlink()]
    found += [path / file for path in inner for file in (SKELETON, POLICY)]
    return [path for path in found if os.path.lexists(path)]
