"""What servers and client compare of a step: all that determines the bytes that it sends."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np

from onnxpuma.ops.registry import Call, Operand


def said_of(call: Call, *facts: object) -> bytes:
    """These facts and the call, but for arrays."""
    text = [repr((*facts, sorted(call.bounds.items())))]
    for operand in call.operands:
        if operand is None:
            text.append("()")
            continue
        words = operand.content.once("digest", partial(_said, operand))
        text.append(f"({operand.name!r}, {words})")
    return f"[{', '.join(text)}]".encode()


def digest_of(said: bytes, call: Call) -> bytes:
    """SHA-256 over this and the arrays of the call."""
    hashed = hashlib.sha256(said)
    for operand in call.operands:
        for array in () if operand is None else (operand.value, operand.beside):
            if array is not None:
                hashed.update(repr((array.dtype.str, array.shape)).encode())
                hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.digest()


def _said(operand: Operand) -> str:
    words = (operand.form.__name__, *operand.format, *operand.resting, operand.enough)
    return ", ".join(map(repr, (operand.shape, *words)))
