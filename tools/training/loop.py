"""Seeded training on the CPU: AdamW, warm-up and cosine decay, the weights of the last step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

IGNORED = -100  # a label that carries no loss: padding


def fix_seed(seed: int) -> None:
    """Make the training depend on `seed` alone; one thread, as sums depend on how they are split."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


def train(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    batch: int,
    rate: float,
    decay: float,
    smoothing: float = 0.0,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    report: Callable[[int, float], None] | None = None,
) -> torch.nn.Module:
    """Minimise the cross-entropy of `model(inputs)` with `labels`; returns the model in eval mode.

    The held-out split takes no part: no early stopping, no choice among checkpoints. `report` is called after
    every epoch with its number and mean loss.
    """
    steps = epochs * math.ceil(len(inputs) / batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    )
    model.train()
    for epoch in range(epochs):
        losses = []
        for rows in torch.randperm(len(inputs)).split(batch):
            chosen = inputs[rows]
            logits = model(chosen if augment is None else augment(chosen))
            loss = functional.cross_entropy(
                logits.flatten(0, -2), labels[rows].flatten(), ignore_index=IGNORED, label_smoothing=smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        if report is not None:
            report(epoch + 1, sum(losses) / len(losses))
    return model.eval()
