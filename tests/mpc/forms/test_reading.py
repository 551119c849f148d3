"""Reading ahead: bounded, in any order, and over with the run."""

from __future__ import annotations

import time

import numpy as np
import pytest

from onnxpuma.errors import PlanError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import reading
from onnxpuma.mpc.forms.reading import Reading, Stored
from onnxpuma.mpc.forms.source import KeySource, Source
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.ring.arrays import PAGE
from onnxpuma.mpc.ring.words import Words, reduced
from tests.mpc.forms.packed import Counted, in_memory, matrix, packed_matrix, readers

FORMAT = Format(40, 16)
SHAPE = (512, 64)  # rows of 320 bytes: 20 KB a component


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 1 << 12)


def made(seed: int) -> tuple[Streamed, Counted, list[Words]]:
    """Party 1's part of a matrix, the source that stands for its file, and the words of the components."""
    sources, components = packed_matrix(matrix(SHAPE, FORMAT.bits, seed), FORMAT, seed)
    assert isinstance(sources[2], Counted)
    stored = Stored((sources[1], sources[2]), SHAPE, FORMAT.bits)
    return Streamed(1, stored, FORMAT), sources[2], components[1:]


def taken(weight: Streamed, ahead: Reading) -> Words:
    eye = np.eye(8, SHAPE[0], dtype=np.uint64)
    return reduced(weight.product(eye, eye, ahead), FORMAT.bits)


def expected(components: list[Words]) -> Words:
    total: Words = sum(words[:8] for words in components)  # type: ignore[assignment]
    return reduced(total, FORMAT.bits)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("window", [1, 1 << 15, 1 << 20])
def test_matrices_are_read_in_the_order_of_the_run(threads: int, window: int) -> None:
    weights = [made(seed) for seed in range(4)]
    order = [0, 1, 1, 2, 3, 0]
    with Reading([weights[i][0].stored for i in order], window, threads) as ahead:
        for i in order:
            assert np.array_equal(taken(weights[i][0], ahead), expected(weights[i][2]))
        assert {
            name.startswith("onnxpuma-reader") for _, source, _ in weights for name in source.threads
        } == {True}
        assert ahead.use.bytes_read == ahead.use.key_bytes == 6 * 5 * SHAPE[0] * SHAPE[1]
        assert min(ahead.use.reading_seconds, ahead.use.key_seconds, ahead.use.product_seconds) > 0
    assert not readers()


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 1, 0], [0, 0, 1], [3, 3, 1], [2, 0, 1, 2, 1]])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_may_take_them_in_another_order(order: list[int], threads: int) -> None:
    weights = [made(seed) for seed in range(4)]
    with Reading([weights[i][0].stored for i in (0, 1, 2)], 1 << 14, threads) as ahead:
        for i in order:
            assert np.array_equal(taken(weights[i][0], ahead), expected(weights[i][2]))
    assert not readers()


def test_the_window_bounds_what_is_read_ahead() -> None:
    weights = [made(seed) for seed in range(4)]
    with Reading([weight.stored for weight, *_ in weights], 1 << 15) as ahead:
        stored = weights[0][0].stored
        due = (1 << 15) // stored.room * stored.blocks[0].size
        deadline = time.monotonic() + 10
        while sum(source.bytes for _, source, _ in weights) < due:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        assert sum(source.bytes for _, source, _ in weights) <= 1 << 15
        for weight, _, components in weights:
            assert np.array_equal(taken(weight, ahead), expected(components))


def test_a_source_that_fails_ends_the_product() -> None:
    weight, source, components = made(0)
    source.fails = True
    with Reading([weight.stored] * 2) as ahead, pytest.raises(PlanError, match="cannot be read"):
        taken(weight, ahead)
    assert not readers()
    source.fails = False
    with Reading([weight.stored]) as ahead:
        assert np.array_equal(taken(weight, ahead), expected(components))


@pytest.mark.parametrize("threads", [1, 4])
def test_damage_is_seen_in_the_first_pass(threads: int) -> None:
    weight, source, components = made(0)
    source.damaged = True
    for _ in range(2):
        with Reading([weight.stored], readers=threads) as ahead, pytest.raises(PlanError, match="damaged"):
            taken(weight, ahead)
    with pytest.raises(PlanError, match="damaged"):
        weight.take(np.array([3]), 0)
    with pytest.raises(PlanError, match="damaged"):
        weight.resident()
    source.damaged = False
    with Reading([weight.stored], readers=threads) as ahead:
        assert np.array_equal(taken(weight, ahead), expected(components))
    assert not source.due


def test_an_early_end_stops_the_readers() -> None:
    weights = [made(seed) for seed in range(4)]
    ahead = Reading([weight.stored for weight, *_ in weights], 1 << 14, 2)
    parts = ahead.parts(weights[0][0].stored, weights[0][1])
    next(parts)
    assert readers()
    ahead.close()
    assert not readers()
    before = [source.bytes for _, source, _ in weights]
    time.sleep(0.05)
    assert [source.bytes for _, source, _ in weights] == before
    assert before[3] == 0
    ahead.close()


def test_what_lies_in_memory_needs_no_thread() -> None:
    sources, components = packed_matrix(matrix(SHAPE, FORMAT.bits), FORMAT)
    held: list[Source] = []
    for source in sources[1:]:
        data = bytearray(5 * SHAPE[0] * SHAPE[1])
        source.read(0, memoryview(data))
        held.append(in_memory(data))
    weight = Streamed(1, Stored((held[0], held[1]), SHAPE, FORMAT.bits), FORMAT)
    assert not weight.stored.on_disk
    with Reading([weight.stored]) as ahead:
        assert not readers()
        assert np.array_equal(taken(weight, ahead), expected(components[1:]))
        assert (ahead.use.bytes_read, ahead.use.key_bytes) == (0, 0)
    half = Streamed(1, Stored((sources[1], held[1]), SHAPE, FORMAT.bits), FORMAT)
    with Reading([half.stored]) as ahead:
        assert not readers(), "a key's stream is made by the product"
        assert np.array_equal(taken(half, ahead), expected(components[1:]))
        assert (ahead.use.bytes_read, ahead.use.key_bytes) == (0, 5 * SHAPE[0] * SHAPE[1])


@pytest.mark.parametrize(("columns", "bits"), [(1, 33), (3, 40), (64, 40), (100_000, 48), (7, 64), (12, 32)])
def test_blocks_begin_where_a_key_stream_can(columns: int, bits: int) -> None:
    stored = Stored((KeySource(bytes(16), 0), KeySource(bytes(16), 1)), (300, columns), bits)
    assert all(block.offset % 16 == 0 for block in stored.blocks)
    assert [block.start for block in stored.blocks] == [0, *(block.stop for block in stored.blocks[:-1])]
    assert [block.offset for block in stored.blocks[1:]] == [b.offset + b.size for b in stored.blocks[:-1]]
    last = stored.blocks[-1]
    assert (last.stop, last.offset + last.size) == (300, stored.size)
    assert stored.size == -(-300 * columns * bits // 8)
    largest = max(block.size for block in stored.blocks)
    assert largest <= stored.room < largest + PAGE
    assert stored.room % PAGE == 0
