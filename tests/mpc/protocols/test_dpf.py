"""Distributed point functions: two keys expand to a one-hot row; one key reveals nothing about the index."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols import dpf
from onnxpuma.mpc.protocols.dpf import depth_of, evaluate, expand_all, generate, look_up, share_ids
from onnxpuma.mpc.ring.words import decode
from onnxpuma.mpc.sharing import opened
from onnxpuma.mpc.simulate import shared_reals, simulate


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 17, 100, 1000, 30522])
def test_two_keys_add_up_to_the_row(rows: int) -> None:
    ids = np.unique([0, rows - 1, rows // 2, rows // 3])
    first, second = generate(ids, rows)
    total = evaluate(first, rows) + evaluate(second, rows)
    assert np.array_equal(total, (np.arange(rows) == ids[:, None]).astype(np.uint32))


@pytest.mark.parametrize("holder", [0, 1])
@pytest.mark.parametrize("rows", [1, 4, 5, 7, 23, 24, 25, 47, 97, 1000, 30522])
def test_the_kernel_expands_keys_as_numpy_does(rows: int, holder: int) -> None:
    """Of any client: also where the bits of a seed that stand for control bits are set."""
    key = generate(np.random.default_rng(rows).integers(0, rows, 7), rows)[holder]
    for seed in (key.seed, key.seed | np.uint64(3)):
        any_key = dpf.Keys(holder, seed, key.corrections, key.leaves)
        expected = dpf._evaluate(holder, seed, key.corrections, key.leaves, rows)
        assert np.array_equal(evaluate(any_key, rows), expected)


def test_large_batches_are_expanded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.arange(50)
    first, _ = generate(ids, 50)
    whole = evaluate(first, 50)
    monkeypatch.setattr(dpf, "_CHUNK", 120)
    monkeypatch.setattr(dpf, "expand_ids", lambda *_: False)
    assert np.array_equal(evaluate(first, 50), whole)


def test_ids_of_many_values_are_expanded_as_each_alone() -> None:
    given = [(np.array([3, 0]), 5), (np.array([[199]]), 200), (np.array([4]), 5), (np.zeros(0, int), 200)]
    values = [share_ids(ids, rows)[1] for ids, rows in given]
    alone = [(evaluate(v.own, v.rows), evaluate(v.following, v.rows)) for v in values]
    values[2].expand()
    expand_all(values)
    for value, expected in zip(values, alone, strict=True):
        for found, one in zip(value.take(), expected, strict=True):
            assert np.array_equal(found, one)


@pytest.mark.parametrize("holder", [0, 1])
def test_one_key_does_not_show_the_index(holder: int) -> None:
    """Every bit of a key and of its expansion, at any position, is a fair coin for every index."""
    rows, n = 33, 4000
    for index in (0, 17, 32):
        key = generate(np.full(n, index), rows)[holder]
        expanded = evaluate(key, rows)
        bits = np.unpackbits(expanded.view(np.uint8).reshape(n, -1), axis=1)
        worst = np.abs(bits.mean(axis=0) - 0.5).max()
        assert worst < 5.5 * 0.5 / np.sqrt(n)
        material = np.concatenate([key.seed.reshape(n, -1), key.corrections.reshape(n, -1)], axis=1)
        bits = np.unpackbits(np.ascontiguousarray(material).view(np.uint8), axis=1)
        free = bits.mean(axis=0)
        free = free[free != 0]  # two bits of a root seed are always zero
        assert np.abs(free - 0.5).max() < 5.5 * 0.5 / np.sqrt(n)


def test_keys_are_fresh() -> None:
    first, again = (generate(np.array([3]), 40)[0] for _ in range(2))
    assert not np.array_equal(first.seed, again.seed)


def test_a_key_is_a_few_hundred_bytes() -> None:
    key, _ = generate(np.array([7]), 30522)
    assert key.nbytes == 16 + 16 * depth_of(30522) + 16 == 240


@pytest.mark.parametrize("shape", [(1,), (2, 3), ()])
def test_look_up_is_exact_and_silent(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(0, 100, (37, 6))
    ids = rng.integers(0, 37, shape)

    def program(party: Party, shares: Replicated, keys: dpf.SecretIds) -> Protocol[dpf.Sum3]:
        yield from ()
        return look_up(party, keys, shares)

    run = simulate(program, shared_reals(table), share_ids(ids, 37))
    words = opened([z.words for z in run.results], 32)
    assert np.array_equal(decode(words, 18, 32), np.rint(table * 2**18)[ids] / 2**18)
    assert run.cost.bits == 0
