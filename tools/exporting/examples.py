"""Random inputs of a given shape: ids within the vocabulary, masks with padding, pixels, spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from exporting.parts import Sizes
from exporting.tracing import BATCH, BATCH_SEQUENCE, Axes

FIRST_WORD = 5  # ids below it are the padding and other special tokens


def input_axes(names: Sequence[str]) -> dict[str, Axes]:
    """Text may be of any length; pictures and spectra are of the size that the model was made for."""
    fixed = ("pixel_values", "input_features")
    return {name: BATCH if name in fixed else BATCH_SEQUENCE for name in names}


def drawn(config: Any, names: Sequence[str], sizes: Sizes) -> tuple[torch.Tensor, ...]:
    """Inputs by name; where there is more than one row, the last ends in two masked positions."""
    source = torch.Generator().manual_seed(sizes.seed)
    mask = attention_mask(sizes.batch, sizes.sequence)
    made: dict[str, torch.Tensor] = {"attention_mask": mask}
    for name in names:
        if name == "pixel_values":
            made[name] = pixels(config, sizes.batch, source)
        elif name == "input_features":
            made[name] = torch.randn(
                sizes.batch, config.num_mel_bins, 2 * config.max_source_positions, generator=source
            )
        elif name == "input_ids":
            ids = words(config, sizes.batch, sizes.sequence, source)
            pad = config.pad_token_id
            made[name] = ids if pad is None else torch.where(mask == 1, ids, pad)
        elif name == "token_type_ids":
            shape = (sizes.batch, sizes.sequence)
            made[name] = torch.randint(0, config.type_vocab_size, shape, generator=source)
    return tuple(made[name] for name in names)


def attention_mask(batch: int, length: int) -> torch.Tensor:
    mask = torch.ones(batch, length, dtype=torch.int64)
    if batch > 1 and length > 3:
        mask[-1, -2:] = 0
    return mask


def words(config: Any, batch: int, length: int, source: torch.Generator) -> torch.Tensor:
    return torch.randint(FIRST_WORD, config.vocab_size - 1, (batch, length), generator=source)


def pixels(config: Any, batch: int, source: torch.Generator) -> torch.Tensor:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(batch, getattr(config, "num_channels", 3), height, width, generator=source)
