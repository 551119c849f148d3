"""Train models/breast-cancer: a tabular Transformer that tells malignant from benign tumours.

    python tools/train_tabular.py

The data is scikit-learn's copy of the Wisconsin diagnostic data set: 30 measurements of 569 patients each. A
quarter, chosen by the seed, is held out and saved beside the model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn

from exporting.tracing import BATCH
from training import folder, loop
from training.blocks import Classifier

ROOT = Path(__file__).resolve().parents[1]


class TabularTransformer(nn.Module):
    """Each measurement is a token, with a weight and a bias of its own [FT-Transformer]."""

    def __init__(self, mean: torch.Tensor, spread: torch.Tensor, width: int = 64) -> None:
        super().__init__()
        features = len(mean)
        self.register_buffer("mean", mean)
        # the inverse, so that the graph multiplies: on shares a product is far cheaper than a quotient
        self.register_buffer("inverse_spread", 1 / spread)
        self.weight = nn.Parameter(torch.randn(features, width) / features**0.5)
        self.bias = nn.Parameter(torch.randn(features, width) / features**0.5)
        self.classifier = Classifier(classes=2, layers=2, width=width, heads=4, dropout=0.3)

    def forward(self, measurements: torch.Tensor) -> torch.Tensor:  # (batch, 30) -> (batch, 2)
        standard = (measurements - self.mean) * self.inverse_spread
        tokens = standard.unsqueeze(-1) * self.weight + self.bias  # (batch, 30, width)
        return self.classifier(tokens)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models/breast-cancer")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args(argv)

    data = load_breast_cancer()
    inputs, heldout, labels, heldout_labels = train_test_split(
        data.data.astype("float32"),
        data.target,
        test_size=0.25,
        stratify=data.target,
        random_state=options.seed,
    )
    loop.fix_seed(options.seed)
    known = torch.from_numpy(inputs)
    spread = known.std(dim=0)
    model = TabularTransformer(known.mean(dim=0), spread)
    loop.train(
        model,
        known,
        torch.from_numpy(labels),
        epochs=options.epochs,
        batch=32,
        rate=3e-4,
        decay=0.1,
        smoothing=0.05,
        augment=lambda rows: rows + 0.5 * spread * torch.randn_like(rows),
    )
    card = {
        "name": "breast-cancer",
        "task": "tabular-classification",
        "about": "a tabular Transformer that tells malignant from benign breast tumours",
        "made_by": f"python tools/train_tabular.py --seed {options.seed} --epochs {options.epochs}",
        "data": "Breast Cancer Wisconsin (Diagnostic), as bundled with scikit-learn; 25 % held out",
        "classes": [str(name) for name in data.target_names],
        "input": {
            "name": "measurements",
            "dtype": "float32",
            "shape": ["batch", 30],
            "about": "raw measurements of cell nuclei, in the order of `features`; standardised in the graph",
            "features": [str(name) for name in data.feature_names],
        },
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", 2]},
    }
    written = folder.write(options.out, model, card, {"measurements": BATCH}, heldout, heldout_labels)
    print(f"{options.out}: {written['weights']} weights, held out {written['heldout']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
