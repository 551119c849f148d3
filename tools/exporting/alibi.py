"""ALiBi that computes in bfloat16, as Falcon's does, written in operators that onnxruntime has: the same
numbers."""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch

# Of 24 binary digits these leave bfloat16's 8 (Veltkamp's way to split a float).
_SPLIT = 2.0**16 + 1


def use_single_alibi(model: Any) -> None:
    """Make a Falcon with ALiBi compute its distances in single precision, rounded where it rounds them."""
    if model.config.model_type == "falcon" and model.config.alibi:
        importlib.import_module(type(model).__module__).build_alibi_tensor = alibi


def alibi(attention_mask: torch.Tensor, num_heads: int, dtype: torch.dtype) -> torch.Tensor:
    """(batch, total) -> (batch x heads, 1, total): the replacement for Transformers' `build_alibi_tensor`."""
    batch, length = attention_mask.shape
    places = (attention_mask.cumsum(dim=-1) - 1) * attention_mask  # (batch, total)
    slopes = torch.tensor(slopes_of(num_heads)).bfloat16().float()
    made = as_bfloat16(slopes[None, :, None] * as_bfloat16(places.float())[:, None, :])
    return made.reshape(batch * num_heads, 1, length).to(dtype)


def slopes_of(heads: int) -> list[float]:
    """2^(-8 i / n) for n heads, n a power of two [ALiBi 3]; for other numbers of heads the slopes of the
    power below, then every second slope of the power above."""
    below = 2 ** math.floor(math.log2(heads))
    finer = [2.0 ** (-4 * (i + 1) / below) for i in range(2 * below)]
    return (finer[1::2] + finer[0::2])[:heads]


def as_bfloat16(x: torch.Tensor) -> torch.Tensor:
    """Single-precision numbers rounded to bfloat16; below 2^111."""
    high = x * _SPLIT
    return high - (high - x)
