"""Train models/tales: a small GPT-style language model that tells animal stories word by word.

    python tools/train_language.py

The stories come from the grammar in training/stories.py. The held-out ones use the same grammar, and none of
them is in the training set.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from exporting.tracing import BATCH_SEQUENCE
from training import folder, loop
from training.blocks import Encoder
from training.stories import END, UNKNOWN, WORDS, Vocabulary, story

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = 128  # positions the model learns


class TaleTransformer(nn.Module):
    """Token and position embeddings, causal blocks, and logits from the token embedding itself."""

    def __init__(self, tokens: int, width: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Embedding(CONTEXT, width)
        nn.init.normal_(self.tokens.weight, std=0.1)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.encoder = Encoder(layers=3, width=width, heads=4, dropout=0.0, causal=True)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:  # (batch, n) -> (batch, n, tokens)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        encoded = self.encoder(self.tokens(input_ids) + self.positions(places))
        return functional.linear(encoded, self.tokens.weight)


def windows(stories: Sequence[str], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Stories as rows of ids, padded with END, and the next ids, IGNORED after a story's end."""
    inputs = np.full((len(stories), CONTEXT), vocabulary.tokens.index(END))
    labels = np.full((len(stories), CONTEXT), loop.IGNORED)
    for row, text in enumerate(stories):
        ids = vocabulary.encode(text)
        inputs[row, : len(ids) - 1] = ids[:-1]
        labels[row, : len(ids) - 1] = ids[1:]
    return inputs, labels


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models/tales")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--stories", type=int, default=12_000)
    parser.add_argument("--heldout", type=int, default=200)
    options = parser.parse_args(argv)

    loop.fix_seed(options.seed)
    draw = random.Random(options.seed)
    told = list(dict.fromkeys(story(draw) for _ in range(options.stories + options.heldout)))
    vocabulary = Vocabulary.of(told)
    inputs, labels = windows(told[options.heldout :], vocabulary)
    heldout, heldout_labels = windows(told[: options.heldout], vocabulary)

    model = TaleTransformer(len(vocabulary.tokens))
    loop.train(
        model,
        torch.from_numpy(inputs),
        torch.from_numpy(labels),
        epochs=options.epochs,
        batch=64,
        rate=2e-3,
        decay=1e-2,
        report=lambda epoch, loss: print(f"epoch {epoch}: loss {loss:.3f}", file=sys.stderr),
    )
    card = {
        "name": "tales",
        "task": "text-generation",
        "about": "a small language model that tells animal stories word by word",
        "made_by": f"python tools/train_language.py --seed {options.seed} --epochs {options.epochs}"
        f" --stories {options.stories} --heldout {options.heldout}",
        "data": "stories told by the grammar in tools/training/stories.py; some are held out",
        "context": CONTEXT,
        "vocabulary": "vocabulary.json",
        "input": {
            "name": "input_ids",
            "dtype": "int64",
            "shape": ["batch", "sequence"],
            "about": "a story from its beginning, at most `context` tokens; no padding is needed",
        },
        "output": {
            "name": "logits",
            "dtype": "float32",
            "shape": ["batch", "sequence", len(vocabulary.tokens)],
        },
    }
    written = folder.write(options.out, model, card, {"input_ids": BATCH_SEQUENCE}, heldout, heldout_labels)
    listing = {"words": WORDS.pattern, "end": END, "unknown": UNKNOWN, "tokens": vocabulary.tokens}
    (options.out / "vocabulary.json").write_text(json.dumps(listing, indent=1) + "\n")
    print(f"{options.out}: {written['weights']} weights, held out {written['heldout']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
