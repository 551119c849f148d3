"""What does a streamed weight cost one server? Nanoseconds of processor time for each part of its way.

    python benchmarks/stream.py [--rows 1,8] [--level avx2] [--json]

A matrix of 11008 x 4096, as a layer of LLaMA-7B has, turned as its exports read it. A server takes two
components of each weight: both from keys, or one from a key and one from the file of words. `key stream` and
`reading` are for one component in blocks, from a file that lies in the system's cache; `product` is for one
component that lies there, and `product with its stream` for one that the product makes; `pass` is all of it
for both components, for a server of two keys and for one with the file, which a thread reads ahead, and
`doubled pass` that of a doubled product, which multiplies once. The best of several runs; the processor time
of all threads, so that other programs matter little.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.reading import Reading, Stored
from onnxpuma.mpc.forms.source import KeySource, Source
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.ring.arrays import pages
from onnxpuma.roles.shared.page_cache import PageCache
from onnxpuma.roles.shared.words_file import FileSource

SHAPE = (11008, 4096)
WEIGHTS = SHAPE[0] * SHAPE[1]
RUNS = 5
KEY = bytes(range(16))


class Checked(FileSource):
    """Words of a file that an earlier run has checked."""

    def passing(self) -> None:
        """No check is due."""


def best(work: Callable[[], object]) -> float:
    """The least nanoseconds of processor time a weight."""
    found = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return 1e9 * min(found) / WEIGHTS


def read(stored: Stored, source: Source) -> None:
    """One component, block by block into one room."""
    room = pages(stored.room)
    for block in stored.blocks:
        source.read(block.offset, room[: block.size])


def repeated(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def costs(bits: int, rows: list[int], folder: Path) -> dict[str, float]:
    """Nanoseconds of one width, by part."""
    path = folder / f"{bits}"
    size = -(-WEIGHTS * bits // 8)
    with path.open("wb") as out:
        for start in range(0, size, 1 << 24):
            out.write(os.urandom(min(1 << 24, size - start)))
    with FileIO(path) as file:
        keys = KeySource(KEY, 3), KeySource(bytes(range(16, 32)), 3)
        words = Checked(file, PageCache(file.fileno()), 0, size)
        pairs: dict[str, tuple[Source, Source]] = {"two keys": keys, "key and file": (keys[0], words)}
        stored = {name: Stored(pair, SHAPE, bits) for name, pair in pairs.items()}
        one = stored["two keys"]
        found = {"key stream": best(partial(read, one, keys[0])), "reading": best(partial(read, one, words))}
        block = one.blocks[0]
        packed = pages(block.size)
        keys[0].read(0, packed)
        for count in rows:
            x = np.random.default_rng(0).integers(0, 1 << 63, (count, SHAPE[1]), np.uint64)
            x = x if bits > 32 else x.astype(np.uint32)
            shape = (block.stop - block.start, SHAPE[1])
            room = out_of(x)
            again = WEIGHTS // (shape[0] * SHAPE[1])
            product = partial(ring.matmul_packed, x, packed, bits, shape, room[:, : shape[0]], turned=True)
            found[f"product, rows: {count}"] = best(partial(repeated, product, again))
            keyed = partial(ring.matmul_keyed, x, KEY, 3, bits, SHAPE, room, turned=True)
            found[f"product with its stream, rows: {count}"] = best(keyed)
            for name, each in stored.items():
                for doubled in (False, True):
                    what = "doubled pass" if doubled else "pass"
                    found[f"{what} of {name}, rows: {count}"] = best(partial(whole, each, bits, x, doubled))
    path.unlink()
    return found


def out_of(x: np.ndarray) -> np.ndarray:
    """Where a product with x goes."""
    return np.zeros((len(x), SHAPE[0]), x.dtype)


def whole(stored: Stored, bits: int, x: np.ndarray, doubled: bool) -> None:
    """What a run does with the matrix."""
    with Reading([stored]) as reading:
        weight = Streamed(1, stored, Format(bits, 18), turned=True)
        if doubled:
            weight.doubled_product(x, reading)
        else:
            weight.product(x, x, reading)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="1,8", help="of the other factor")
    parser.add_argument("--bits", default="40,48,64", help="of a weight")
    parser.add_argument("--level", choices=ring.native_levels(), help="of the kernel")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.level:
        ring.set_native_level(options.level)
    rows, widths = ([int(n) for n in text.split(",")] for text in (options.rows, options.bits))
    with tempfile.TemporaryDirectory() as folder:
        found = {bits: costs(bits, rows, Path(folder)) for bits in widths}
    if options.json:
        print(json.dumps({"level": ring.native_level(), "nanoseconds": found}, indent=1))
        return
    table = Table(title=f"A streamed weight at one server, nanoseconds, {ring.native_level()}")
    table.add_column("")
    for bits in widths:
        table.add_column(f"{bits} bits", justify="right")
    for part in found[widths[0]]:
        table.add_row(part, *(f"{found[bits][part]:.2f}" for bits in widths))
    Console().print(table)


if __name__ == "__main__":
    main()
