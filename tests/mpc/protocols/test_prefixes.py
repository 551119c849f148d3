"""Numbers for common prefixes: right for every pair of numbers, and what is sent hides the pivot's."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols import prefixes, seed_tree
from onnxpuma.mpc.protocols.prefixes import Prefixes, deal_prefixes, deal_prefixes_cost, generate
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import Words, from_integers, reduced
from onnxpuma.mpc.simulate import shared_words, simulate

OF = Prefixes(6, (2, 4, 5), (7, 90, 128), (64, 13, 6))
NUMBERS, FACTORS = [5, 3 << 70, (1 << 128) - 9], [1 << 50, 77, 33]


def integers(x: Long) -> np.ndarray:
    return x.low.astype(object) + (x.high.astype(object) << 64)


def test_every_pair_of_numbers() -> None:
    """Shares of the number where the prefixes agree or B's is one more, else of zero; of both numbers."""
    n, b = (w.reshape(-1) for w in np.meshgrid(np.arange(64), np.arange(64)))

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        leads, rows = party.role(1) == PIVOT, len(n)
        every = np.zeros((rows, 1), np.uint64)
        given = [
            Long.constants(v)[None] + Long.of_words(every) if leads else None for v in (NUMBERS, FACTORS)
        ]
        keys = deal_prefixes(party, 1, from_integers(n, 6) if leads else None, *given, rows, OF)
        yield
        return None if leads else keys.evaluate(from_integers(b, 6))

    run = simulate(program, shared_words(from_integers(n, 6), 6))
    assert run.cost == deal_prefixes_cost(len(n), OF)
    halves = [result for result in run.results if result is not None]
    for which, (values, widths) in enumerate(((NUMBERS, OF.number_widths), (FACTORS, OF.factor_widths))):
        total = sum(integers(half[which]) for half in halves)
        for column, (length, width) in enumerate(zip(OF.lengths, widths, strict=True)):
            ahead = ((b >> (6 - length)) - (n >> (6 - length))) % (1 << length)
            expected = (ahead <= 1).astype(object) * values[column]
            assert (total[:, column] % (1 << width) == expected % (1 << width)).all()


TOY = Prefixes(2, (1, 2), (1, 1), (1, 1))
PRGS = (seed_tree.LEFT, seed_tree.RIGHT, prefixes.NUMBER, prefixes.FACTOR)


def views(
    monkeypatch: pytest.MonkeyPatch, holder: int, secret: tuple[int, ...], without: int | None = None
) -> np.ndarray:
    """How often each view of a holder occurs, over its root and everything that the other's seeds yield.

    A seed is one bit. The holder expands its own by fixed functions, which it knows; each block of the other
    is fresh, as a PRF under a seed that the holder lacks makes it. without: the number of a block of the
    other that is left out.
    """
    known = np.random.default_rng(7).integers(0, 4, (len(PRGS), 2), np.uint64)
    root = np.arange(1 << 13, dtype=np.uint64)
    used, calls = 1, 0

    def fresh(bits: int) -> np.ndarray:
        nonlocal used, calls
        used, calls = used + bits, calls + 1
        words = (root >> np.uint64(used - bits)) & np.uint64((1 << bits) - 1)
        return words * np.uint64(calls - 1 != without)

    def expanded(prg: Any, seeds: Words) -> Words:
        bits = 2 if prg in PRGS[:2] else 1
        out = np.zeros_like(seeds)
        mine = known[PRGS.index(prg)][(seeds[holder, ..., 0] >> np.uint64(2)) & np.uint64(1)]
        columns = [fresh(bits) for _ in range(seeds[0, 0, ..., 0].size)]
        theirs = np.stack(columns, axis=-1).reshape(mine.shape)
        for side, words in ((holder, mine), (1 - holder, theirs)):
            # the lowest bit controls, the one above it is given up
            out[side, ..., 0] = (words & np.uint64(1)) | ((words >> np.uint64(1)) << np.uint64(2))
        return out

    for module in (seed_tree, prefixes):
        monkeypatch.setattr(module, "expanded", expanded)
    own = (root & np.uint64(1)) << np.uint64(2)
    roots = np.zeros((2, len(root), 2), np.uint64)
    roots[holder, :, 0] = own
    n, *values = (np.full(len(root), value, np.uint64) for value in secret)
    numbers, factors = (Long.of_words(np.stack(values[i : i + 2], axis=1)) for i in (0, 2))
    corrections, *fixed = generate(roots, n.astype(np.uint8), numbers, factors, TOY)
    assert used == 13
    view = own
    for column, bits in [*((c, 3) for c in corrections.T), *((c, 1) for f in fixed for c in f.low.T)]:
        view = (view << np.uint64(bits)) | reduced(column, bits).astype(np.uint64)
    return np.sort(view)


SECRETS = [(n, *values) for n in range(4) for values in ((0, 0, 0, 0), (1, 0, 1, 1), (1, 1, 0, 1))]


@pytest.mark.parametrize("holder", [0, 1])
def test_a_key_is_the_same_for_every_secret(monkeypatch: pytest.MonkeyPatch, holder: int) -> None:
    """Enumerated: all seeds of one bit, all blocks of the other holder, two levels."""
    first = views(monkeypatch, holder, SECRETS[0])
    assert all(np.array_equal(first, views(monkeypatch, holder, secret)) for secret in SECRETS[1:])


@pytest.mark.parametrize(("holder", "without"), list(product([0, 1], range(8))))
def test_every_block_is_needed(monkeypatch: pytest.MonkeyPatch, holder: int, without: int) -> None:
    """Without any one block of the other holder's seeds the key shows something."""
    first, *others = SECRETS
    expected = views(monkeypatch, holder, first, without)
    assert any(not np.array_equal(expected, views(monkeypatch, holder, other, without)) for other in others)


def every_bit(words: list[Words]) -> np.ndarray:
    bytes_of = [np.ascontiguousarray(w).view(np.uint8).reshape(len(w), -1) for w in words]
    return np.unpackbits(np.concatenate(bytes_of, axis=1), axis=1)


def keys_of(n: int, rows: int, roots: np.ndarray) -> tuple[Words, Long, Long]:
    every = np.ones((rows, 3), np.uint64)
    of = Prefixes(8, (4, 6, 8), (128,) * 3, (64,) * 3)
    return generate(roots & seed_tree.SEED, np.full(rows, n, np.uint8), *[Long.of_words(every)] * 2, of)


def test_what_is_sent_is_random() -> None:
    """With AES: every bit of what the twins are sent is a fair coin, whatever the pivot's number is."""
    rows, rng = 4000, np.random.default_rng()
    for n in (0, 1, 85, 255):
        corrections, numbers, factors = keys_of(n, rows, rng.integers(0, 1 << 64, (2, rows, 2), np.uint64))
        bits = every_bit([corrections, numbers.low, numbers.high, factors.low])
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(rows)
