"""A token drawn in the clear, as the servers draw it on shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxpuma.graph.sampling import MARKED, NEUTRAL, PARAMETERS_INPUT, SHIFT


def probabilities(logits: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """The softmax of rows (..., n) after temperature, top-k, top-p and min-p, float64."""
    temperature, top_k, top_p, min_p = map(float, parameters[:4])
    if not temperature:
        return (np.arange(logits.shape[-1]) == logits.argmax(-1)[..., None]).astype(np.float64)
    scores = logits.astype(np.float64) / temperature
    if 0 < top_k < scores.shape[-1]:
        least = np.sort(scores, axis=-1)[..., -int(top_k), None]
        scores = np.where(scores >= least, scores, -np.inf)
    if top_p < 1:
        found = _softmax(scores)
        order = np.argsort(-found, axis=-1, kind="stable")
        ranked = np.take_along_axis(found, order, -1)
        left = (np.cumsum(ranked, axis=-1) - ranked < top_p).sum(-1, keepdims=True)
        least = np.take_along_axis(scores, np.take_along_axis(order, left - 1, -1), -1)
        scores = np.where(scores >= least, scores, -np.inf)
    found = _softmax(scores)
    if min_p:
        found = np.where(found >= min_p * found.max(-1, keepdims=True), found, 0.0)
    share: np.ndarray = found / found.sum(-1, keepdims=True)
    return share


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    share: np.ndarray = e / e.sum(-1, keepdims=True)
    return share


def drawn_plainly(
    logits: np.ndarray, suppressed: Any, steering: Mapping[str, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """(batch, rows): an id drawn from each row of logits; steering: inputs of graph/sampling.py by name."""
    parameters = np.asarray(steering.get(PARAMETERS_INPUT, NEUTRAL), np.float64)
    scores, penalty = logits.astype(np.float64), parameters[4]
    changed = np.where(scores < 0, scores * penalty, scores / penalty)
    scores = np.where(np.asarray(steering.get(MARKED, 0)) > 0, changed, scores) + steering.get(SHIFT, 0.0)
    scores[..., np.asarray(suppressed, np.int64)] = -np.inf
    ends = np.cumsum(probabilities(scores, parameters), axis=-1)
    found: np.ndarray = (ends <= random.random((*ends.shape[:-1], 1)) * ends[..., -1:]).sum(-1)
    return found
