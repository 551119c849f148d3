"""The Transformer that all shipped models consist of: pre-norm blocks of attention and a GELU network."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection; `causal` hides later positions."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, n, width)
        batch, n, width = x.shape
        q, k, v = (
            part.reshape(batch, n, self.heads, width // self.heads).transpose(1, 2)  # (batch, heads, n, d)
            for part in self.projections(x).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(batch, n, width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + network(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, n, width)
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.network(self.network_norm(x)))


class Encoder(nn.Module):
    """A stack of blocks and a last normalisation."""

    def __init__(
        self, layers: int, width: int, heads: int, dropout: float = 0.0, *, causal: bool = False
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, causal) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, n, width)
        return self.norm(self.blocks(x))


class Classifier(nn.Module):
    """Put a learned CLS token before the tokens, encode, and read the class off the CLS position."""

    def __init__(self, classes: int, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.encoder = Encoder(layers, width, heads, dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (batch, n, width) -> (batch, classes)
        cls = self.cls.expand(tokens.shape[0], -1, -1)
        return self.head(self.encoder(torch.cat((cls, tokens), dim=1))[:, 0])
