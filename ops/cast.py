"""Casts: reals stay unchanged, booleans are comparisons with zero, integers are whole words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated, Shares
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.wide import wide_zero, wide_zero_cost
from onnxpuma.ops.beside import Beside, kept, too_far, whole
from onnxpuma.ops.logic import bits_cost, bits_of
from onnxpuma.ops.registry import Call, Result, Value, operator
from onnxpuma.ops.rounding import towards_zero, towards_zero_cost
from onnxpuma.ops.shares import replicated
from onnxpuma.standard.mask_values import FAR

_NARROW = ("int8", "uint8", "int4", "uint4", "int2", "uint2")


_REALS = ("float16", "bfloat16", "float32", "float64")


def _kind(dtype: np.dtype[Any]) -> str:
    """f for a real, b for a boolean, i for an integer, - for a type without a secure form."""
    if dtype.kind in "fV":
        return "f" if dtype.name in _REALS else "-"
    return {"u": "i", "i": "i", "b": "b"}.get(dtype.kind, "-")


def _kinds(call: Call) -> tuple[str, str]:
    """The kinds before and after the cast."""
    return _kind(call.given(0).dtype), _kind(call.outputs[0].dtype)


def _refuse(call: Call) -> str | None:
    before, after = _kinds(call)
    target = call.outputs[0].dtype
    if not call.secret(0):
        return "its input is public"
    if "-" in (before, after):
        return f"it casts to or from {target}, which has no secure form"
    if before == "f" and after != "f" and too_far(call, FAR):
        return too_far(call, FAR)
    if before in "fi" and target.name in _NARROW:
        return f"it casts secret numbers to {target}, which would wrap"
    return None


def _cost(call: Call) -> Cost:
    before, after = _kinds(call)
    if before == "f" and after == "i":
        return towards_zero_cost(call.given(0).size)
    return bits_cost(call.given(0).size, wide_zero_cost) if after == "b" and before != "b" else Cost()


def _result(call: Call) -> Result:
    before, after = _kinds(call)
    first = call.given(0)
    if before == "f" and after == "f":
        return Result(first.form, first.format)
    return Result(Replicated, call.at(call.reals.fraction if after == "f" else 0))


def _beside(call: Call) -> Beside:
    return [kept(call.given(0).beside, call.outputs[0].shape) if _kinds(call) == ("f", "f") else None]


@operator(
    "Cast", "CastLike",
    cost=_cost, result=_result, refuse=_refuse, secret="first", integers=True, beside=_beside,
)  # fmt: skip
def cast(party: Party, call: Call, x: Shares, *_: Value) -> Protocol[Sequence[Form]]:
    """Integers become reals by scaling, reals integers by dropping their fraction, and both become booleans
    by a comparison with zero."""
    yield from ()
    before, after = _kinds(call)
    if before == "f" and after == "f":
        return [x]
    held = replicated(whole(x, call.given(0)))
    if before == "f" and after == "i":
        return [(yield from towards_zero(party, held))]
    if after == "b" and before != "b":
        return [(yield from bits_of(party, held, wide_zero, inverted=True))]
    return [held.aligned(call.reals.fraction) if after == "f" else held]
