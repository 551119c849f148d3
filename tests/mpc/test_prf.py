"""PRF streams: both holders of a key derive the same words; each byte of a stream is used once."""

from __future__ import annotations

import hmac
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB

from onnxpuma.mpc.prf import (
    KEY_BYTES,
    PART_BYTES,
    AesStream,
    PartyKeys,
    derived_key,
    fresh_key,
    fresh_part,
    local_keys,
)
from onnxpuma.mpc.ring.words import word_type

DRAWS = [((7,), 64), ((3, 5), 12), ((1,), 1), ((), 64), ((0,), 64), ((100_003,), 20), ((2, 2), 8)]


def test_both_holders_of_a_key_derive_the_same_words() -> None:
    keys = local_keys()
    for key in range(3):
        for shape, bits in DRAWS:
            own = keys[key].draw(key, shape, bits)
            other = keys[(key + 2) % 3].draw(key, shape, bits)
            assert own.shape == shape
            assert own.dtype == word_type(bits)
            assert np.array_equal(own, other)
        with pytest.raises(KeyError):
            keys[(key + 1) % 3].draw(key, (1,), 8)


def test_keys_differ() -> None:
    keys = local_keys()
    words = [keys[i].draw(i, (1000,), 64) for i in range(3)]
    assert len(np.unique(np.concatenate(words))) == 3000
    assert fresh_key() != fresh_key()
    assert len(fresh_key()) == KEY_BYTES == 16


def test_no_byte_of_the_stream_is_used_twice() -> None:
    key = fresh_key()
    whole = AesStream(key).draw((4_000_000,), 8).tobytes()
    stream, places = AesStream(key), []
    for shape, bits in DRAWS * 3:
        drawn = stream.draw(shape, bits).tobytes()
        if len(drawn) >= 8:  # long enough to be found in one place alone
            places.append((whole.index(drawn), len(drawn)))
    places.sort()
    assert all(start + size <= after for (start, size), (after, _) in pairwise(places))
    assert sum(places[-1]) > 1 << 20  # more than one of the chunks in which the stream is generated


def test_short_draws_share_no_byte_and_stay_as_they_were_drawn() -> None:
    stream = AesStream(fresh_key())
    drawn = [stream.draw((1 + place % 700,), (5, 16, 33, 64)[place % 4]) for place in range(400)]
    before = [words.copy() for words in drawn]
    assert all(words.ctypes.data % 8 == 0 for words in drawn)
    assert not any(np.may_share_memory(a, b) for a, b in pairwise(drawn))
    for words in drawn[::2]:
        words[...] = 0  # a holder may change its words
    assert all(np.array_equal(words, kept) for words, kept in zip(drawn[1::2], before[1::2], strict=True))


def test_pieces_of_any_length_are_one_stream() -> None:
    """As the library makes it, whoever makes it here."""
    key, sizes = fresh_key(), (1, 16, 5, 3, 0, 40, 7, 9, 4097, 32, 31, (1 << 19) + 1, 15)
    expected = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(sum(sizes)))
    stream, found = AesStream(key), []
    for size in sizes:
        found.append(np.empty(size, np.uint8))
        stream.fill(found[-1])
    assert b"".join(piece.tobytes() for piece in found) == expected


def test_the_stream_is_aes_in_counter_mode() -> None:
    key, nonce = fresh_key(), bytes(15) + b"\xff"
    counters = b"".join((int.from_bytes(nonce, "big") + i).to_bytes(16, "big") for i in range(3))
    expected = Cipher(AES(key), ECB()).encryptor().update(counters)
    assert AesStream(key, nonce).draw((48,), 8).tobytes() == expected


def test_a_nonce_gives_another_stream() -> None:
    key = fresh_key()
    first = PartyKeys.from_keys(1, key, fresh_key(), nonce=b"a" * 16)
    second = PartyKeys.from_keys(0, fresh_key(), key, nonce=b"b" * 16)
    third = PartyKeys.from_keys(0, fresh_key(), key, nonce=b"a" * 16)
    words = first.draw(1, (4,), 64)
    assert not np.array_equal(words, second.draw(1, (4,), 64))
    assert np.array_equal(words, third.draw(1, (4,), 64))


def test_words_look_uniform() -> None:
    words = AesStream(fresh_key()).draw((200_000,), 8)
    counts = np.bincount(words, minlength=256)
    assert abs(((counts - counts.mean()) ** 2 / counts.mean()).sum() - 255) < 10 * (2 * 255) ** 0.5


def test_a_derived_key_depends_on_every_part_and_on_what_it_is_for() -> None:
    """HKDF-SHA256 of RFC 5869, step by step; a context that is split differently is another context."""
    parts = [fresh_part(), fresh_part()]
    assert [len(part) for part in parts] == [PART_BYTES] * 2
    key = derived_key(parts, b"ab", b"c")
    info = b"".join(len(item).to_bytes(8, "little") + item for item in (b"onnxpuma key", b"ab", b"c"))
    extracted = hmac.digest(bytes(32), b"".join(parts), "sha256")
    assert key == hmac.digest(extracted, info + b"\x01", "sha256")[:KEY_BYTES]
    others = [
        derived_key(parts[::-1], b"ab", b"c"),
        derived_key([parts[0], fresh_part()], b"ab", b"c"),
        derived_key([fresh_part(), parts[1]], b"ab", b"c"),
        derived_key(parts, b"a", b"bc"),
        derived_key(parts, b"ab"),
        derived_key(parts, b"ab", b"d"),
    ]
    assert len({key, *others}) == 7


def test_a_code_depends_on_the_key_and_on_what_it_is_for() -> None:
    """Both holders of K_1 compute the same codes of it, and nothing of the key shows in them."""
    keys = [fresh_key() for _ in range(3)]
    zero, one = (PartyKeys.from_keys(party, keys[party], keys[party + 1]) for party in range(2))
    assert zero.code(1, b"ab", b"c") == one.code(1, b"ab", b"c")
    codes = [zero.code(0, b"ab", b"c"), *(zero.code(1, *c) for c in ((b"ab", b"c"), (b"a", b"bc"), (b"ab",)))]
    assert len(set(codes)) == 4
    info = b"".join(len(item).to_bytes(8, "little") + item for item in (b"onnxpuma code", b"ab", b"c"))
    assert codes[1] == hmac.digest(keys[1], info, "sha256")
    with pytest.raises(KeyError):
        zero.code(2, b"ab")
