"""The folder a trained model ships in: model.onnx, heldout.npz, and a card that states its held-out score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from exporting import onnx_file, tracing
from training.loop import IGNORED


def write(
    folder: Path,
    model: torch.nn.Module,
    card: Mapping[str, Any],
    axes: Mapping[str, dict[int, str]],
    inputs: np.ndarray,
    labels: np.ndarray,
) -> dict[str, Any]:
    """Export, check against PyTorch at two shapes, score the file on the held-out split, write the card.

    inputs: held out, in the client's types; labels: classes, or next tokens with IGNORED for padding. Returns
    the card with its `heldout` table filled in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = torch.from_numpy(inputs)
    shorter = tensors[:3, : tensors.shape[1] // 2] if labels.ndim > 1 else tensors[:1]
    traced = tracing.trace(model, (tensors[:2],), axes, ["logits"])
    (path,) = onnx_file.save(onnx_file.tidy(traced), folder / "model.onnx")
    onnx_file.check(path, model, list(axes), [(tensors[:5],), (shorter,)])
    np.savez_compressed(folder / "heldout.npz", inputs=inputs, labels=labels)

    weights = sum(parameter.numel() for parameter in model.parameters())
    whole = {**card, "weights": weights, "heldout": score(path, inputs, labels)}
    (folder / "model.toml").write_text(_toml(whole))
    return whole


def score(path: Path, inputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy of model.onnx in the clear through onnxruntime; perplexity too for a language model."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: inputs})
    counted = labels != IGNORED
    right = logits.argmax(axis=-1)[counted] == labels[counted]
    result = {"examples": len(inputs), "accuracy": round(float(right.mean()), 4)}
    if labels.ndim > 1:
        chosen = logits[counted].astype(np.float64)
        chosen -= chosen.max(axis=-1, keepdims=True)
        surprise = np.log(np.exp(chosen).sum(axis=-1)) - chosen[np.arange(len(chosen)), labels[counted]]
        result["perplexity"] = round(float(np.exp(surprise.mean())), 3)
    return result


def _toml(card: Mapping[str, Any]) -> str:
    """A card as TOML: strings, numbers and lists are written as in JSON; nested mappings become tables."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in card.items() if not isinstance(value, Mapping)]
    for key, value in card.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *(f"{name} = {json.dumps(item)}" for name, item in value.items())]
    return "\n".join(lines) + "\n"
