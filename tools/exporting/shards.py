"""A checkpoint's safetensors files: where each tensor lies, and one tensor at a time out of them.

A safetensors file is the length of its header (8 bytes, little-endian), the header (JSON: name -> dtype,
shape, first and last byte), and the raw arrays. So an array can be read, or pointed at, without the others.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporting import ExportError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
_LONGEST_HEADER = 100_000_000  # bytes: the format's own limit
_AGAIN = "copy the checkpoint again, with all of its files"


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies: `offset` counts from the start of the file."""

    path: Path
    offset: int
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * DTYPES[self.dtype].itemsize

    def mapped(self) -> torch.Tensor:
        """The tensor in its own type, mapped from the file: memory is used for the parts that are read."""
        if not self.size:
            return torch.empty(self.shape, dtype=DTYPES[self.dtype])
        read_ahead(self.path, self.offset, self.nbytes)
        # Copy on write, as torch takes no array that is read-only; nobody writes to it.
        raw = np.memmap(self.path, np.uint8, "c", self.offset, (self.nbytes,))
        return torch.from_numpy(raw).view(DTYPES[self.dtype]).reshape(self.shape)


def read_ahead(path: Path, offset: int, nbytes: int) -> None:
    """Have the system read these bytes now, in large requests, rather than a few pages as each is touched."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), offset, nbytes, os.POSIX_FADV_WILLNEED)


def has_shards(folder: Path) -> bool:
    return (folder / INDEX).is_file() or (folder / SINGLE).is_file()


def read_shards(folder: Path) -> dict[str, Stored]:
    """Tensor -> its place, from the headers of a checkpoint; reads no tensor.

    Raises ExportError for a file of the index that is missing, cut short or not safetensors, a tensor that
    the index promises and no file has, and a tensor of a type that is no float of 16 to 64 bits.
    """
    index = folder / INDEX
    if not index.is_file():
        return _read_header(folder / SINGLE)
    try:
        listed: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files = list(dict.fromkeys(listed.values()))
        if not all(Path(name).name == name for name in files):
            raise ValueError("a file outside the folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{index} is not an index of safetensors files: {error}", _AGAIN) from error
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise ExportError(
            f"{folder} lacks {len(missing)} of the {len(files)} files of weights that {INDEX} names: "
            + ", ".join(missing[:3]),
            _AGAIN,
        )
    found: dict[str, Stored] = {}
    for name in files:
        held = _read_header(folder / name)
        absent = [tensor for tensor, file in listed.items() if file == name and tensor not in held]
        if absent:
            raise ExportError(f"{folder / name} lacks the tensor {absent[0]!r} that {INDEX} names", _AGAIN)
        found |= {tensor: place for tensor, place in held.items() if listed.get(tensor) == name}
    return found


def _read_header(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError("the header is longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
        return {
            name: _place(path, name, entry, 8 + length, size)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ExportError(
            f"{path} is not a safetensors file, or is damaged or cut short: {error}", _AGAIN
        ) from error


def _place(path: Path, name: str, entry: dict[str, Any], base: int, size: int) -> Stored:
    if entry["dtype"] not in DTYPES:
        raise ExportError(
            f"tensor {name!r} of {path} has elements of type {entry['dtype']}, not floats of 16 to 64 bits",
            "a quantised checkpoint is written anew, in single precision: omit --in-place",
        )
    begin, end = entry["data_offsets"]
    place = Stored(path, base + begin, entry["dtype"], tuple(entry["shape"]))
    if end - begin != place.nbytes or begin < 0 or base + end > size:
        raise ValueError(f"tensor {name!r} ends at byte {base + end} of {size}")
    return place


def bring(places: dict[str, Stored], folder: Path) -> tuple[dict[str, Stored], list[Path]]:
    """The places in `folder`, and the files that had to be copied into it: none where they lie there already.

    onnxpuma reads weights from the model's own folder alone, and follows no link out of it. A file system
    that can share blocks between files (btrfs, XFS) copies without space. Raises ExportError where the space
    is missing, and for links in the model's own folder.
    """
    files = list(dict.fromkeys(place.path for place in places.values()))
    away = [path for path in files if path.parent.resolve() != folder.resolve()]
    linked = [path for path in files if path not in away and (path.is_symlink() or path.stat().st_nlink > 1)]
    if linked:
        raise ExportError(
            f"{linked[0]} is a link, or has several names: onnxpuma reads no weights from outside the folder",
            "give another --out: the files are copied there",
        )
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(path.stat().st_size for path in away), shutil.disk_usage(folder).free
    if needed > free:
        raise ExportError(
            f"{folder} has {free / 1e9:.1f} GB free, and the copy of the weights takes {needed / 1e9:.1f} GB",
            f"--out {away[0].parent} needs no copy: model.onnx then lies beside the weights",
        )
    copies = {path: folder / path.name for path in away}
    for source, target in copies.items():
        if target.exists() and target.stat().st_size != source.stat().st_size:
            raise ExportError(f"{target} is there already, with other weights", "give another --out")
    for source, target in copies.items():
        _copy(source, target)
    moved = {
        name: replace(place, path=copies.get(place.path, folder / place.path.name))
        for name, place in places.items()
    }
    return moved, list(copies.values())


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with source.open("rb") as read, target.open("wb") as written:
        left = os.fstat(read.fileno()).st_size
        try:
            while left:
                left -= os.copy_file_range(read.fileno(), written.fileno(), left) or left
        except (OSError, AttributeError):  # between file systems, or not on Linux
            shutil.copyfileobj(read, written, 1 << 24)
