"""The files of sentence-transformers that say how a model's features become the vector of a text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers.utils import cached_file

MODULES = "modules.json"


def save_pooling(source: str, folder: Path) -> None:
    """Copy modules.json and the settings of its pooling from a folder or repository, if it has them. Raises
    OSError where they cannot be read or written."""
    fetched = _fetcher(source)
    listing = fetched(MODULES)
    if listing is None:
        return
    shutil.copyfile(listing, folder / MODULES)
    for module in json.loads(listing.read_text(encoding="utf-8")):
        if str(module.get("type", "")).endswith(".Pooling"):
            name = f"{module['path']}/config.json"
            found = fetched(name)
            if found is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, folder / name)


def _fetcher(source: str) -> Callable[[str], Path | None]:
    if Path(source).is_dir():
        return lambda name: Path(source) / name if (Path(source) / name).is_file() else None

    def fetched(name: str) -> Path | None:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)

    return fetched
