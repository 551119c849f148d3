"""Maps that are linear with public coefficients, or bilinear: rotary embeddings, running sums, einsum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.linear import bilinear
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.ops.elementwise import as_words, public_scale
from onnxpuma.ops.limits import output_below
from onnxpuma.ops.registry import Call, Result, Value, as_first, operator


def _running_refusal(call: Call) -> str | None:
    return "its axis is secret" if call.secret(1) else None


@operator(
    "CumSum",
    result=as_first,
    defers=lambda call, index: index == 0,
    refuse=_running_refusal,
    secret="first",
    integers=True,
)
def running_sum(party: Party, call: Call, x: Form, axis: np.ndarray) -> Protocol[Sequence[Form]]:
    """Sums of everything so far: local."""
    place = int(axis.reshape(-1)[0])
    exclusive, backwards = call.attribute("exclusive", 0), call.attribute("reverse", 0)

    def sums(words: np.ndarray) -> np.ndarray:
        turned = np.flip(words, place) if backwards else words
        total = np.cumsum(turned, axis=place, dtype=words.dtype)
        if exclusive:
            total = total - turned
        return np.flip(total, place) if backwards else total

    yield from ()
    return [x.map(sums)]  # type: ignore[attr-defined]


def _einsum_result(call: Call) -> Result:
    a, b = call.given(0), call.operand(1)
    if b is None:
        return Result(Replicated, a.fraction)
    if a.secret and b.secret:
        return Result(Sum3, a.fraction + b.fraction)
    secret, public = (a, b) if a.secret else (b, a)
    return Result(Replicated, secret.fraction + public_scale(public.value)[0])  # type: ignore[arg-type]


def _einsum_refusal(call: Call) -> str | None:
    return "it has more than two operands: split it" if len(call.inputs) > 2 else None


@operator(
    "Einsum",
    result=_einsum_result,
    refuse=_einsum_refusal,
    limits=output_below(2.0**26),
    error="one unit of 2^-18",
)
def einsum(party: Party, call: Call, a: Value, b: Value = None) -> Protocol[Sequence[Form]]:
    """Sums of products over named axes, of one or two operands."""
    equation = call.attribute("equation")
    equation = equation.decode() if isinstance(equation, bytes) else equation

    def product(*words: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum(equation, *words, optimize=True))

    yield from ()
    if b is None:
        assert isinstance(a, Replicated)
        return [a.map(product)]
    if isinstance(a, Replicated) and isinstance(b, Replicated):
        return [bilinear(party, a, b, product)]
    if isinstance(a, Replicated):
        assert isinstance(b, np.ndarray)
        fraction, integers = public_scale(b)
        return [a.map(lambda w: product(w, as_words(integers))).with_fraction(a.fraction + fraction)]
    assert isinstance(a, np.ndarray)
    assert isinstance(b, Replicated)
    fraction, integers = public_scale(a)
    return [b.map(lambda w: product(as_words(integers), w)).with_fraction(b.fraction + fraction)]


def _rotary_tables(call: Call) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines for each place, (batch or 1, sequence, 1, half)."""
    tables = []
    positions = call.public(3)
    for place in (1, 2):
        table = call.public(place)
        assert table is not None
        rows = table[positions] if positions is not None else table
        tables.append(rows[:, :, None, :])
    return tables[0], tables[1]


def _rotary_result(call: Call) -> Result:
    cosine, sine = _rotary_tables(call)
    return Result(Replicated, call.given(0).fraction + public_scale(np.stack([cosine, sine]))[0])


def _rotary_refusal(call: Call) -> str | None:
    if any(call.secret(i) for i in (1, 2, 3)):
        return "its cosines, sines or positions are secret: they are architecture, make them public"
    return None if call.secret(0) else "its input is public"


@operator(
    "RotaryEmbedding",
    result=_rotary_result,
    refuse=_rotary_refusal,
    secret="first",
    error="one unit of 2^-18",
)
def rotary(party: Party, call: Call, x: Replicated, *_: Value) -> Protocol[Sequence[Form]]:
    """Pairs of features turned by an angle that depends on the position: local for public angles."""
    shape = x.shape
    size = shape[3] if len(shape) == 4 else shape[2] // int(call.attribute("num_heads"))
    width = int(call.attribute("rotary_embedding_dim", 0)) or size
    interleaved = bool(call.attribute("interleaved", 0))
    cosine, sine = _rotary_tables(call)
    fraction, integers = public_scale(np.stack([cosine, sine])[..., : width // 2])
    cos_words, sin_words = as_words(integers)
    one = np.uint64(1 << fraction)

    def turned(words: np.ndarray) -> np.ndarray:
        heads = words.transpose(0, 2, 1, 3) if len(shape) == 4 else words.reshape(*shape[:2], -1, size)
        part = heads[..., :width]
        if interleaved:
            left, right = part[..., 0::2], part[..., 1::2]
        else:
            left, right = part[..., : width // 2], part[..., width // 2 :]
        both = (cos_words * left - sin_words * right, sin_words * left + cos_words * right)
        new = np.stack(both, axis=-1).reshape(part.shape) if interleaved else np.concatenate(both, axis=-1)
        done = np.concatenate([new, heads[..., width:] * one], axis=-1)
        return done.transpose(0, 2, 1, 3) if len(shape) == 4 else done.reshape(shape)

    yield from ()
    return [x.map(turned).with_fraction(x.fraction + fraction)]
