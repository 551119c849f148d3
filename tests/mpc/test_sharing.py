"""Sharing and opening: shares for the client are freshly masked, without a bit below their scale."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.prf import fresh_key
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.ring.words import decode, encode
from onnxpuma.mpc.sharing import component_stream, components_of, deal, held, held_by, opened, outgoing, share
from onnxpuma.mpc.simulate import shared_reals, simulate


@pytest.mark.parametrize("bits", [1, 7, 12, 32, 33, 64])
def test_components_add_up(bits: int) -> None:
    words = np.arange(7, dtype=np.uint64) & np.uint64((1 << bits) - 1)
    components = share(words, bits)
    assert np.array_equal(opened(components, bits), words)
    parts = [held_by(i, components, Format(bits, 0)) for i in range(3)]
    assert np.array_equal(parts[0].second, parts[1].first)
    assert np.array_equal(parts[2].second, parts[0].first)


@pytest.mark.parametrize("shape", [(), (0,), (2, 5)])
def test_each_party_reads_its_components_from_keys_and_words(shape: tuple[int, ...]) -> None:
    words = np.arange(np.prod(shape), dtype=np.uint64).reshape(shape) + np.uint64(1 << 63)
    keys = dict(enumerate((fresh_key(), fresh_key())))
    rest = deal(words.copy(), [component_stream(key, 3) for key in keys.values()], 64)
    for party in range(3):
        own = {c: keys[c] for c in components_of(party) if c in keys}
        first, second = held(party, own, rest.copy, shape, 64, 3)
        other = held((party + 1) % 3, keys, rest.copy, shape, 64, 3)[1]
        assert np.array_equal(opened((first, second, other), 64), words)


def test_a_value_dealt_in_blocks_is_dealt_as_a_whole() -> None:
    words, keys = np.arange(1000, dtype=np.uint64), (fresh_key(), fresh_key())
    streams = [component_stream(key) for key in keys]
    blocks = [deal(words[start : start + 300].copy(), streams, 64) for start in range(0, 1000, 300)]
    whole = deal(words.copy(), [component_stream(key) for key in keys], 64)
    assert np.array_equal(np.concatenate(blocks), whole)


def test_a_product_leaves_truncated_and_without_a_message() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 40, (2, 5000))

    def program(party: Party, a: Replicated, b: Replicated) -> Protocol[Sum3]:
        yield from ()
        return outgoing(party, multiply(party, a, b), RESTING)

    run = simulate(program, shared_reals(x), shared_reals(y))
    assert run.cost.bits == 0
    terms = run.results
    assert {(t.bits, t.fraction) for t in terms} == {(46, 18)}
    exact = decode(encode(x, 18) * encode(y, 18), 36)
    error = (decode(opened([t.words for t in terms], 46), 18, 46) - exact) * 2**18
    assert np.abs(error).max() < 1.5
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(error.size)


def test_terms_are_fresh_each_time() -> None:
    def program(party: Party, a: Replicated) -> Protocol[tuple[Sum3, Sum3]]:
        yield from ()
        return outgoing(party, a, RESTING), outgoing(party, a, RESTING)

    run = simulate(program, shared_reals(np.ones(100)))
    for party in range(3):
        first, second = run.results[party]
        assert not np.any(first.words == second.words)
    for which in range(2):
        assert np.all(decode(opened([r[which].words for r in run.results], 64), 18) == 1)
