"""The folder that receives a shared model: all files appear there or none, and none is replaced unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import POLICY, SKELETON
from onnxpuma.plan.draft import drafts_of
from onnxpuma.roles.shared.file import share_path
from onnxpuma.roles.shared.model import GRAPH_NAME, INDEX
from onnxpuma.transport.link import PARTIES


class Unmoved(Protocol):
    """A file that is written but not yet in its place."""

    def finish(self) -> None: ...
    def commit(self) -> None: ...


def check_free(folder: Path, replace: bool) -> None:
    """ConfigError for a folder that already holds a shared model, unless `replace` is set."""
    held = [path.name for path in _layout(folder) if os.path.lexists(path)]
    if held and not replace:
        raise ConfigError(
            f"{folder} already holds a shared model ({', '.join(held[:3])}): a server may be using it",
            "choose another folder, or say --replace (in Python replace=True)",
        )


def settle(folder: Path, shares: Iterable[Unmoved], public: Mapping[str, bytes]) -> None:
    """Move the shares and the public files (path in the folder -> content) to their places once all are on
    the disk, and remove the other files of the model that lay there. If an OSError is raised before that,
    nothing was moved."""
    shares = list(shares)
    before = _earlier(folder)
    for share in shares:
        share.finish()
    drafts = drafts_of(folder, public)
    try:
        for moved in (*shares, *drafts):
            moved.commit()
    finally:
        for draft in drafts:
            draft.discard()
    for path in before:
        if str(path.relative_to(folder)) not in public:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it is the folder itself, or holds other files
                path.parent.rmdir()


def _layout(folder: Path) -> list[Path]:
    """The paths of the files that a model may have."""
    shares = [share_path(folder, party) for party in range(PARTIES)]
    return [folder / SKELETON, folder / POLICY, folder / INDEX, *shares]


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
