"""Rotary embeddings: pairs of features rotated by an angle that depends on the position."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, PublicWords, Shares, Sum3, joined, stacked, trivial
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.ops.factors import factor_bits, public_scale
from onnxpuma.ops.late import Given, Late, LateValue, Shapes
from onnxpuma.ops.lengths import radius_of, rotated
from onnxpuma.ops.limits import ROOM, output_in_product
from onnxpuma.ops.registry import Call, Result, Use, Value, operator
from onnxpuma.ops.shares import as_shares

F = TypeVar("F", bound=Form)
Layout: TypeAlias = Callable[[Any], Any]  # of an array or a form
Index: TypeAlias = tuple[Any, ...]

_USUAL = 2.0  # a larger number is none of a rotation


def _angles_secret(call: Use) -> bool:
    return call.secret(1) or call.secret(2)


def _public_tables(call: Use) -> np.ndarray:
    """Cosines and sines at each place, (2, batch or 1, sequence, 1, columns)."""
    return np.stack([_by_place(call)(np.asarray(call.public(place))) for place in (1, 2)])


def _by_place(call: Use) -> Layout:
    """The rows of a table at the positions, (batch or 1, sequence, 1, columns)."""
    positions = call.public(3)
    return lambda table: (table if positions is None else table[positions])[:, :, None]


def _seen_of_tables(node: Node, given: Given, shapes: Shapes) -> Hashable:
    """The scale of cosines and sines, and how much longer they make a pair."""
    cosines, sines = given
    if node.domain or len([name for name in node.inputs if name]) != 3 or cosines is None or sines is None:
        return None
    if cosines.shape != sines.shape or cosines.ndim != 3 or not cosines.size:
        return None
    tables = np.stack([cosines, sines])
    if not (np.abs(tables) < _USUAL).all():  # nor is it a number
        return None
    return factor_bits(tables), radius_of(cosines, sines)


def _words_of_tables(call: Use) -> Sequence[PublicWords]:
    """Their integers, each (batch or 1, sequence, 1, columns)."""
    _, integers = public_scale(_public_tables(call))
    return [PublicWords.of(t[..., : _width(call) // 2], call.given(0).format.bits) for t in integers]


def _size(call: Use) -> int:
    shape = call.given(0).shape
    return shape[3] if len(shape) == 4 else shape[2] // int(call.attribute("num_heads"))


def _width(call: Use) -> int:
    """The number of features of a head that are rotated."""
    return int(call.attribute("rotary_embedding_dim")) or _size(call)


def _result(call: Call) -> Result:
    if _angles_secret(call):
        return Result(Sum3, call.at(2 * call.reals.fraction))
    x = call.given(0)
    return Result(x.form, x.format.finer(factor_bits(_public_tables(call))))


def _turns_products(call: Use, index: int) -> bool:
    """Whether x may be a product: its proved bound leaves room for the fraction bits of public tables."""
    x = call.given(0)
    if index or x.form is not Sum3 or x.beside is not None or _angles_secret(call):
        return False
    made = x.format.finer(factor_bits(_public_tables(call)))
    return rotated(call).size * (1 + ROOM) + ROOM < made.largest


def _accepts(call: Call, index: int) -> Format | None:
    """Public tables leave x in its ring."""
    if index or _angles_secret(call) or not call.secret(0):
        return None
    return call.outputs[0].format.at(call.given(0).fraction)


def _apart(call: Call) -> Layout:
    """(batch, sequence, heads, size), from either of the standard's two layouts."""
    shape, size = call.given(0).shape, _size(call)
    if len(shape) == 4:
        return lambda x: x.transpose(0, 2, 1, 3)
    return lambda x: x.reshape(*shape[:2], -1, size)


def _halves(call: Call) -> tuple[Index, Index]:
    """The index of the first and of the second feature of each pair, (batch, sequence, heads, half)."""
    width = _width(call)
    if call.attribute("interleaved"):
        return (..., slice(0, width, 2)), (..., slice(1, width, 2))
    return (..., slice(0, width // 2)), (..., slice(width // 2, width))


def _together(call: Call, left: F, right: F, rest: F) -> F:
    """The inverse of `_apart` and `_halves`."""
    shape = call.given(0).shape
    if call.attribute("interleaved"):
        new = stacked([left, right], axis=-1).reshape(*left.shape[:-1], -1)
    else:
        new = joined([left, right], axis=-1)
    done = joined([new, rest], axis=-1)
    return done.transpose(0, 2, 1, 3) if len(shape) == 4 else done.reshape(shape)


def _refuse(call: Call) -> str | None:
    half, found = _width(call) // 2, call.given(1).shape[-1]
    if found >= half:
        return None
    return f"its tables rotate {2 * found} features of a head, and it asks for {2 * half}"


@operator(
    "RotaryEmbedding",
    result=_result,
    accepts=_accepts,
    defers=_turns_products,
    refuse=_refuse,
    secret="input, tables",
    limits=output_in_product,
    error="one unit of 2^-18",
    late=Late((1, 2), _seen_of_tables, _words_of_tables),
)
def rotary(
    party: Party, call: Call, x: Value, cosines: LateValue, sines: LateValue, positions: Value = None
) -> Protocol[Sequence[Form]]:
    """Pairs of features rotated by an angle that depends on the position. No message."""
    yield from ()
    apart, (first, second), width = _apart(call), _halves(call), _width(call)
    if not _angles_secret(call):
        turning: Shares = x if isinstance(x, Sum3) else as_shares(party, x, call.reals)
        heads = apart(turning)
        left, right, rest = heads[first], heads[second], heads[..., width:]
        fraction = factor_bits(_public_tables(call))
        late = [t for t in (cosines, sines) if isinstance(t, PublicWords)]
        c, s = late or _words_of_tables(call)
        turned = (
            left.times_public(c, fraction) - right.times_public(s, fraction),
            left.times_public(s, fraction) + right.times_public(c, fraction),
        )
        return [_together(call, *turned, rest.aligned(rest.fraction + fraction))]
    heads = apart(as_shares(party, x, call.reals))
    left, right, rest = heads[first], heads[second], heads[..., width:]
    by_place = _by_place(call)
    cos, sin = (by_place(as_shares(party, t, call.reals))[..., : width // 2] for t in (cosines, sines))
    new_left = multiply(party, left, cos) - multiply(party, right, sin)
    new_right = multiply(party, left, sin) + multiply(party, right, cos)
    kept = multiply(party, rest, trivial(party.index, np.ones((1, 1, 1, 1)), call.reals))
    return [_together(call, new_left, new_right, kept)]
