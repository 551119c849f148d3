"""Trees of seeds: every kernel level grows the very words that the protocol's own steps yield."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.protocols.prefixes import Prefixes, generate, walk
from onnxpuma.mpc.protocols.seed_tree import PATH_KEYS, SEED
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.trees import deal_tree, walk_tree
from onnxpuma.mpc.ring.words import Words, word_type

Draw = Callable[..., Words]


def prefixes(bits: int, *lengths: int) -> Prefixes:
    return Prefixes(bits, lengths, (128,) * len(lengths), (64,) * len(lengths))


SHAPES = [
    prefixes(1, 1),
    prefixes(2, 1),
    prefixes(6, 2, 4, 5),
    prefixes(33, *range(1, 34)),
    prefixes(62, *range(4, 61, 2)),
    prefixes(64, 3, 63, 64),
]
ROWS = [0, 1, 2, 3, 16, 65, 130]
WITHOUT = ("numpy", "baseline")  # levels whose trees the protocol grows itself
EDGES = [0, 1, (1 << 64) - 1, (1 << 64) - 2, 1 << 63, 0x5555555555555555]


def same(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, Long):
            same((one.low, one.high), (other.low, other.high))
        else:
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


def long(drawn: Draw, shape: tuple[int, ...], seed: int) -> Long:
    return Long(drawn(shape, seed=seed), drawn(shape, seed=seed + 1))


@pytest.mark.parametrize("of", SHAPES, ids=lambda of: f"{of.bits} bits")
def test_a_tree_is_the_one_of_the_protocol(drawn: Draw, level: str, of: Prefixes) -> None:
    kind = word_type(of.bits)
    below = kind.type((1 << of.bits) - 1)
    for rows in ROWS:
        n, b = drawn(rows, kind, 1) & below, drawn(rows, kind, 2) & below
        edges = np.array(EDGES, np.uint64).astype(kind) & below
        n[:6], b[:6] = edges[:rows], edges[::-1][:rows]
        b[6:9] = n[6:9]
        roots = drawn((2, rows, 2)) & SEED
        shape = (rows, len(of.lengths))
        numbers, factors = long(drawn, shape, 3), long(drawn, shape, 5)
        expected = generate(roots, n, numbers, factors, of)
        found = deal_tree(PATH_KEYS, of.bits, of.stops, n, roots, numbers, factors)
        if level in WITHOUT:
            assert found is None
            return
        same(found, expected)
        corrections, *fixed = expected
        for holder in (0, 1):
            own, sent = np.ascontiguousarray(roots[holder]), (corrections, *fixed)
            walked = walk_tree(PATH_KEYS, of.bits, of.stops, b, own, *sent, holder)
            assert walked is not None
            same(walked, walk(own, corrections, b, *fixed, of, holder))


def test_layouts_change_nothing(drawn: Draw, level: str) -> None:
    """Arrays with gaps, words narrower than 64 bits and read-only ones."""
    of, rows = prefixes(16, 5, 16), 7
    n = drawn(2 * rows, np.uint16)[::2]
    roots = np.swapaxes(drawn((rows, 2, 2)), 0, 1) & SEED
    values = [long(drawn, (2, rows), seed) for seed in (1, 3)]
    turned = [Long(v.low.T, v.high.T) for v in values]
    turned[0].low.flags.writeable = False
    found = deal_tree(PATH_KEYS, of.bits, of.stops, n, roots, *turned)
    if level not in WITHOUT:
        same(found, generate(roots, n, *turned, of))


def test_what_does_not_fit_is_refused(drawn: Draw, level: str) -> None:
    of, kernel = prefixes(8, 3, 8), native()
    n, roots = drawn(2), drawn((2, 2, 2))
    corrections, value, out = drawn((2, 16)), drawn((2, 2)), drawn((4, 2, 2))
    good = [PATH_KEYS, 8, of.stops, n, roots, corrections, value, value, value, value, out, -1]
    if kernel is None or not kernel.grow(*good):
        return
    for place, wrong in (
        (0, PATH_KEYS[:-1]),
        (1, 7),
        (1, 65),
        (2, b""),
        (2, bytes([0, 8])),
        (2, bytes([8, 8])),
        (2, bytes([8, 3])),
        (2, bytes([3])),
        (3, drawn(3)),
        (4, roots[0]),
        (5, corrections[:, 1:].copy()),
        (8, value[:1]),
        (10, out[:3]),
        (11, 2),
        (11, 1),
    ):
        with pytest.raises(ValueError, match="fit"):
            kernel.grow(*[wrong if i == place else given for i, given in enumerate(good)])
