"""How fast is ring arithmetic here? Products, packing and fused loops, per core and kernel level.

    python benchmarks/ring.py [--level avx2] [--seconds 0.3] [--json]

Time is processor time of the one thread, the best of several runs, so a busy machine does not matter.
Products are given in billions of multiplications a second, those with a matrix that stays packed in
nanoseconds a word of it, everything else in GB/s of unpacked words.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.words import Words, word_type

LINEAR = [(128, 1536, 768), (128, 1536, 3072), (128, 6144, 768), (16, 768, 3072), (1, 768, 3072)]
BITS = [1, 6, 12, 20, 24, 28, 46, 48, 52, 64]
PACKED = [(1, 40), (8, 40), (16, 40), (8, 32), (8, 48), (8, 64)]  # rows, and bits of the packed words
BLOCK = (32, 4096)  # packed words that stay in the cache
COUNT = 1 << 17  # words packed at once: a hidden state of 128 x 1024


@dataclass(frozen=True)
class Figure:
    """One measured rate."""

    what: str
    dtype: str
    rate: float
    unit: str


def drawn(*shape: int, dtype: object = np.uint64) -> Words:
    """Random words."""
    kind = np.dtype(dtype)  # type: ignore[call-overload]
    words: Words = np.random.default_rng(0).integers(0, 1 << 8 * kind.itemsize, shape, kind)
    return words


def seconds_per_call(call: Callable[[], object], budget: float) -> float:
    """The best processor time of one call, trying for `budget` seconds."""
    call()
    start = time.thread_time()
    call()
    once = time.thread_time() - start
    repeats = max(1, int(0.005 / max(once, 1e-9)))
    best, end = once, time.monotonic() + budget
    while time.monotonic() < end:
        start = time.thread_time()
        for _ in range(repeats):
            call()
        best = min(best, (time.thread_time() - start) / repeats)
    return best


def products(budget: float) -> Iterator[Figure]:
    """Linear layers, attention, and the pair that a product of two shared values needs."""
    for dtype, bits in ((np.uint64, 64), (np.uint64, 48), (np.uint32, 32)):
        name = np.dtype(dtype).name + (" mod 2^48" if bits == 48 else "")
        for m, k, n in LINEAR:
            a, b, out = drawn(m, k, dtype=dtype), drawn(k, n, dtype=dtype), np.empty((m, n), dtype)
            spent = seconds_per_call(partial(ring.matmul, a, b, out, bits=bits), budget)
            yield Figure(f"{m} x {k} @ {k} x {n}", name, m * k * n / spent / 1e9, "G products/s")
        a, b, out = drawn(128, 768, dtype=dtype), drawn(768, 3072, dtype=dtype), np.empty((128, 3072), dtype)
        spent = seconds_per_call(partial(ring.matmul_pair, a, b, a, b, out, bits=bits), budget)
        yield Figure("pair of 128 x 768 @ 768 x 3072", name, 2 * out.size * 768 / spent / 1e9, "G products/s")
        q, k_ = drawn(12, 128, 64, dtype=dtype), drawn(12, 128, 64, dtype=dtype).swapaxes(-1, -2)
        spent = seconds_per_call(partial(ring.matmul, q, k_, bits=bits), budget)
        yield Figure("12 heads of Q K^T, 128 x 64", name, 12 * 128 * 128 * 64 / spent / 1e9, "G products/s")


def packed_products(budget: float) -> Iterator[Figure]:
    """A few rows times a block of packed weights, both ways."""
    for rows, bits in PACKED:
        kind = np.uint32 if bits <= 32 else np.uint64
        stream = ring.pack(drawn(*BLOCK, dtype=kind), bits)
        for turned in (True, False):
            inner, outer = BLOCK[::-1] if turned else BLOCK
            a, out = drawn(rows, inner, dtype=kind), drawn(rows, outer, dtype=kind)
            call = partial(ring.matmul_packed, a, stream, bits, BLOCK, out, turned)
            spent = seconds_per_call(call, budget) / (inner * outer)
            name = f"{rows} rows @ packed, {bits} bits" + (", turned" if turned else "")
            yield Figure(name, np.dtype(kind).name, spent * 1e9, "ns a word")


def packing(budget: float) -> Iterator[Figure]:
    """Words to bits and back."""
    for bits in BITS:
        words = drawn(COUNT, dtype=word_type(bits))
        stream = ring.pack(words, bits)
        there = seconds_per_call(partial(ring.pack, words, bits), budget)
        back = seconds_per_call(partial(ring.unpack, stream, bits, (COUNT,)), budget)
        yield Figure(f"pack {bits} bits", words.dtype.name, words.nbytes / there / 1e9, "GB/s")
        yield Figure(f"unpack {bits} bits", words.dtype.name, words.nbytes / back / 1e9, "GB/s")


def loops(budget: float) -> Iterator[Figure]:
    """The fused loops, on 64-bit words."""
    words, table16, table64 = drawn(COUNT), drawn(COUNT, dtype=np.uint16), drawn(COUNT)
    small, large = drawn(16, dtype=np.uint16), drawn(1 << 12)
    calls: dict[str, Callable[[], object]] = {
        "table_bits, 4 bits": lambda: ring.table_bits(words, 9, 4, small, table16),
        "pick_bits, 4 bits": lambda: ring.pick_bits(table16, words, 9, 4),
        "pick_bits, 6 bits": lambda: ring.pick_bits(table64, words, 9, 6),
        "gather_table, 12 bits": lambda: ring.gather_table(large, words, 12345, 20, 12),
        "axpy, 12 bits": lambda: ring.axpy(table64, large, words, 12345, 20, 12, words),
        "shift_mask, 20 bits": lambda: ring.shift_mask(words, 14, 20),
    }
    for name, call in calls.items():
        yield Figure(name, "uint64", words.nbytes / seconds_per_call(call, budget) / 1e9, "GB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", choices=ring.native_levels(), help="kernel level (default: the best here)")
    parser.add_argument("--seconds", type=float, default=0.3, help="time given to each figure")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    if options.level:
        ring.set_native_level(options.level)
    ring.set_threads(1)
    figures = [f for part in (products, packed_products, packing, loops) for f in part(options.seconds)]
    if options.json:
        report = {"level": ring.native_level(), "figures": [asdict(f) for f in figures]}
        json.dump(report, sys.stdout, indent=1)
        return
    table = Table(title=f"ring arithmetic, one core, level {ring.native_level()}")
    for heading in ("what", "words", "rate", "unit"):
        table.add_column(heading, justify="right" if heading == "rate" else "left")
    for figure in figures:
        table.add_row(figure.what, figure.dtype, f"{figure.rate:.2f}", figure.unit)
    Console().print(table)


if __name__ == "__main__":
    main()
