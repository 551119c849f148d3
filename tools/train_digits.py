"""Train models/digits: a vision Transformer that reads handwritten digits of 8 x 8 pixels.

    python tools/train_digits.py

The data is scikit-learn's copy of the UCI optical digits test set: 1797 images. A quarter, chosen by the
seed, is held out and saved beside the model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from exporting.tracing import BATCH
from training import folder, loop
from training.blocks import Classifier

ROOT = Path(__file__).resolve().parents[1]


class DigitTransformer(nn.Module):
    """Patches of 2 x 2 pixels become 16 tokens by a convolution, each with a learned position."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.classifier = Classifier(classes=10, layers=2, width=width, heads=4, dropout=0.1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:  # (batch, 1, 8, 8) -> (batch, 10)
        scaled = (pixels - 8) * 0.125
        tokens = self.patches(scaled).flatten(2).transpose(1, 2)  # (batch, 16, width)
        return self.classifier(tokens + self.positions)


def shift(pixels: torch.Tensor) -> torch.Tensor:
    """Move each image by up to one pixel in each direction, filling with blank paper."""
    padded = functional.pad(pixels, (1, 1, 1, 1))  # (batch, 1, 10, 10)
    moved = [
        image[:, y : y + 8, x : x + 8]
        for image, (y, x) in zip(padded, torch.randint(0, 3, (len(pixels), 2)).tolist(), strict=True)
    ]
    return torch.stack(moved)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models/digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=150)
    options = parser.parse_args(argv)

    data = load_digits()
    images = data.images.astype("float32")[:, None]
    inputs, heldout, labels, heldout_labels = train_test_split(
        images, data.target, test_size=0.25, stratify=data.target, random_state=options.seed
    )
    loop.fix_seed(options.seed)
    model = DigitTransformer()
    loop.train(
        model,
        torch.from_numpy(inputs),
        torch.from_numpy(labels),
        epochs=options.epochs,
        batch=64,
        rate=1e-3,
        decay=1e-2,
        smoothing=0.1,
        augment=shift,
    )
    card = {
        "name": "digits",
        "task": "image-classification",
        "about": "a vision Transformer that reads handwritten digits",
        "made_by": f"python tools/train_digits.py --seed {options.seed} --epochs {options.epochs}",
        "data": "Optical Recognition of Handwritten Digits, as bundled with scikit-learn; 25 % held out",
        "classes": [str(digit) for digit in range(10)],
        "input": {
            "name": "pixels",
            "dtype": "float32",
            "shape": ["batch", 1, 8, 8],
            "about": "ink from 0 (paper) to 16 (black); scaled inside the model",
        },
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", 10]},
    }
    written = folder.write(options.out, model, card, {"pixels": BATCH}, heldout, heldout_labels)
    print(f"{options.out}: {written['weights']} weights, held out {written['heldout']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
