"""Sharing and opening: shares for the client are freshly masked, without a bit below their scale."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from onnxpuma.mpc import ring
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.prf import fresh_key
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.ring.words import decode, encode, reduced
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


def some_words(count: int, bits: int) -> np.ndarray:
    return reduced(np.random.default_rng(bits).integers(0, 2**64, count, np.uint64), bits)


@pytest.mark.parametrize("bits", [1, 7, 32, 40, 46, 48, 64])
@pytest.mark.parametrize("shape", [(), (0,), (2, 5), (3, 1000)])
def test_each_party_reads_its_components_from_keys_and_words(shape: tuple[int, ...], bits: int) -> None:
    words = some_words(int(np.prod(shape)), bits).reshape(shape)
    keys = dict(enumerate((fresh_key(), fresh_key())))
    rest = deal(words.copy(), [component_stream(key, 3) for key in keys.values()], bits)
    for party in range(3):
        own = {c: keys[c] for c in components_of(party) if c in keys}
        first, second = held(party, own, rest.copy, shape, bits, 3)
        other = held((party + 1) % 3, keys, rest.copy, shape, bits, 3)[1]
        assert np.array_equal(opened((first, second, other), bits), words)


@pytest.mark.parametrize("bits", [1, 7, 32, 40, 46, 48, 64])
def test_a_value_dealt_in_blocks_is_dealt_as_a_whole(bits: int) -> None:
    words, keys = some_words(1003, bits), (fresh_key(), fresh_key())
    streams = [component_stream(key) for key in keys]
    blocks = [deal(words[start : start + 304].copy(), streams, bits) for start in range(0, 1003, 304)]
    whole = deal(words.copy(), [component_stream(key) for key in keys], bits)
    assert np.array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("bits", [1, 7, 32, 40, 46, 48, 64])
def test_a_component_s_words_lie_packed_in_the_key_stream(bits: int) -> None:
    """Array number `index` starts at block `index << 64` of AES-CTR, so whoever has the key seeks in it."""
    key, index, count = fresh_key(), 5, 1000
    words = component_stream(key, index).packed((count,), bits)
    encryptor = Cipher(AES(key), CTR((index << 64).to_bytes(16, "big"))).encryptor()
    stream = encryptor.update(bytes(-(-count * bits // 8)))
    number = int.from_bytes(stream, "little")
    mask = (1 << bits) - 1
    assert [int(word) for word in words] == [number >> place * bits & mask for place in range(count)]
    skipped = (index << 64) + 3 * bits  # blocks: 3 * bits * 16 bytes, a whole number of words
    later = Cipher(AES(key), CTR(skipped.to_bytes(16, "big"))).encryptor().update(bytes(2 * bits))
    first = 3 * 16 * 8
    assert np.array_equal(ring.unpack(later, bits, (16,)), words[first : first + 16])


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
