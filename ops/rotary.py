"""Rotary embeddings: pairs of features turned by an angle that depends on the position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.elementwise import as_words, public_scale
from onnxpuma.ops.layout import as_shares
from onnxpuma.ops.limits import output_below
from onnxpuma.ops.registry import FRACTION, Call, Result, Value, operator

Layout = Callable[[np.ndarray], np.ndarray]


def _angles_secret(call: Call) -> bool:
    return call.secret(1) or call.secret(2)


def _public_tables(call: Call) -> np.ndarray:
    """Cosines and sines at each place, (2, batch or 1, sequence, 1, half)."""
    return np.stack([_by_place(call)(np.asarray(call.public(place))) for place in (1, 2)])


def _by_place(call: Call) -> Layout:
    """The rows of a table at the positions, (batch or 1, sequence, 1, half)."""
    positions, half = call.public(3), _width(call) // 2

    def rows(table: np.ndarray) -> np.ndarray:
        found = table[positions] if positions is not None else table
        return found[:, :, None, :half]

    return rows


def _size(call: Call) -> int:
    shape = call.given(0).shape
    return shape[3] if len(shape) == 4 else shape[2] // int(call.attribute("num_heads"))


def _width(call: Call) -> int:
    """How many features of a head are turned."""
    return int(call.attribute("rotary_embedding_dim")) or _size(call)


def _result(call: Call) -> Result:
    if _angles_secret(call):
        return Result(Sum3, 2 * FRACTION)
    return Result(Replicated, call.given(0).fraction + public_scale(_public_tables(call))[0])


def _apart(call: Call) -> Layout:
    """(batch, sequence, heads, size), from either of the two layouts that there are."""
    shape, size = call.given(0).shape, _size(call)
    if len(shape) == 4:
        return lambda words: words.transpose(0, 2, 1, 3)
    return lambda words: words.reshape(*shape[:2], -1, size)


def _halves(call: Call) -> tuple[Layout, Layout]:
    """The first and the second of each pair, (batch, sequence, heads, half)."""
    width = _width(call)
    if call.attribute("interleaved"):
        return (lambda heads: heads[..., 0:width:2]), (lambda heads: heads[..., 1:width:2])
    return (lambda heads: heads[..., : width // 2]), (lambda heads: heads[..., width // 2 : width])


def _together(call: Call, left: np.ndarray, right: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """What `_apart` and `_halves` took apart."""
    shape = call.given(0).shape
    if call.attribute("interleaved"):
        new = np.stack([left, right], axis=-1).reshape(*left.shape[:-1], -1)
    else:
        new = np.concatenate([left, right], axis=-1)
    done = np.concatenate([new, rest], axis=-1)
    return done.transpose(0, 2, 1, 3) if len(shape) == 4 else done.reshape(shape)


def _refuse(call: Call) -> str | None:
    half, found = _width(call) // 2, call.given(1).shape[-1]
    if found >= half:
        return None
    return f"its tables turn {2 * found} features of a head, and it asks for {2 * half}"


@operator(
    "RotaryEmbedding",
    result=_result,
    refuse=_refuse,
    secret="input, tables",
    limits=output_below(2.0**26),
    error="one unit of 2^-18",
)
def rotary(
    party: Party, call: Call, x: Value, cosines: Value, sines: Value, positions: Value = None
) -> Protocol[Sequence[Form]]:
    """Pairs of features turned by an angle that depends on the position: no message."""
    yield from ()
    apart, (first, second), width = _apart(call), _halves(call), _width(call)
    heads = as_shares(party, x).map(apart)
    left, right, rest = heads.map(first), heads.map(second), heads.map(lambda w: w[..., width:])
    if not _angles_secret(call):
        fraction, (cos_words, sin_words) = _as_factors(_public_tables(call))

        def turned(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
            both = cos_words * a - sin_words * b, sin_words * a + cos_words * b
            return _together(call, *both, c * np.uint64(1 << fraction))

        first_words = turned(left.first, right.first, rest.first)
        second_words = turned(left.second, right.second, rest.second)
        return [
            Replicated(party.index, first_words, second_words, Format(left.bits, left.fraction + fraction))
        ]
    cos, sin = (as_shares(party, table).map(_by_place(call)) for table in (cosines, sines))
    new_left = multiply(party, left, cos) - multiply(party, right, sin)
    new_right = multiply(party, left, sin) + multiply(party, right, cos)
    kept = multiply(party, rest, as_shares(party, np.ones((1, 1, 1, 1))))
    words = _together(call, new_left.words, new_right.words, kept.words)
    return [Sum3(party.index, words, new_left.format)]


def _as_factors(tables: np.ndarray) -> tuple[int, np.ndarray]:
    fraction, integers = public_scale(tables)
    return fraction, as_words(integers)
