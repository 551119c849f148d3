"""A checkpoint of random half-precision weights in an architecture's exact shapes, written as a stream.

Every 16 random bits choose one of the 65536 quantiles of a normal distribution: faster than the disk, where
numpy's own normal numbers would take longer.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from exporting import ExportError
from exporting.shards import INDEX, SINGLE

DEVIATION = 0.02
_LARGEST_SHARD = 4_000_000_000  # bytes
_BLOCK = 1 << 22  # elements drawn at once
_BYTES = 2  # of an element
_MARK = {"format": "pt", "weights": "random"}


def write_random(shapes: Mapping[str, tuple[int, ...]], folder: Path, seed: int) -> list[Path]:
    """Write tensors of these shapes as float16, normal with standard deviation 0.02, those of one axis that
    are no bias (norms) around one; returns the files.

    One seed gives the same bytes. Memory: a few blocks of 8 MB. Raises ExportError where the space is
    missing, and where `folder` holds a checkpoint that was not drawn here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    needed = _BYTES * sum(map(math.prod, shapes.values()))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ExportError(
            f"{folder} has {free / 1e9:.1f} GB free, and the weights take {needed / 1e9:.1f} GB",
            "give another --out, or fewer --layers",
        )
    source = np.random.SFC64(seed)
    table = torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)) * DEVIATION
    noise = table.numpy().astype(np.float16)
    around_one = (1 + table).numpy().astype(np.float16)
    shards = _parted(shapes)
    paths = [folder / _name(number, len(shards)) for number in range(1, len(shards) + 1)]
    try:
        for path, shard in zip(paths, shards, strict=True):
            with path.open("wb") as file:
                file.write(_header(shard))
                for name, shape in shard.items():
                    norm = len(shape) == 1 and not name.endswith("bias")
                    _draw(file, math.prod(shape), around_one if norm else noise, source)
    except BaseException:  # a shard that is cut short is of no use
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    listed = {name: path.name for path, shard in zip(paths, shards, strict=True) for name in shard}
    index = {"metadata": {"total_size": needed, **_MARK}, "weight_map": listed}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return paths


def _clear(folder: Path) -> None:
    """Remove an earlier checkpoint of random weights; refuse to write over any other."""
    index = folder / INDEX
    if index.is_file():
        listed = json.loads(index.read_text())
        if listed.get("metadata", {}).get("weights") == _MARK["weights"]:
            for name in set(listed["weight_map"].values()):
                (folder / Path(name).name).unlink(missing_ok=True)
            index.unlink()
    if index.is_file() or (folder / SINGLE).is_file():
        raise ExportError(f"{folder} holds a checkpoint already", "give another --out for random weights")


def _parted(shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, tuple[int, ...]]]:
    """The tensors, file by file."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = _BYTES * math.prod(shape)
        if shards[-1] and filled + size > _LARGEST_SHARD:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    return shards


def _name(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def _header(shard: Mapping[str, tuple[int, ...]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": _MARK}
    end = 0
    for name, shape in shard.items():
        begin, end = end, end + _BYTES * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # the arrays start at a multiple of 8
    return struct.pack("<Q", len(text)) + text


def _draw(file: BinaryIO, size: int, quantiles: np.ndarray, source: np.random.SFC64) -> None:
    for count in _blocks(size):
        words = source.random_raw(-(-count // 4)).view(np.uint16)[:count]
        file.write(quantiles.take(words).data)


def _blocks(size: int) -> Iterator[int]:
    for start in range(0, size, _BLOCK):
        yield min(_BLOCK, size - start)
