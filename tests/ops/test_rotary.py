"""Rotary embeddings: layouts, halves and pairs, a part of the features, public and secret angles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxpuma.check.single import Comparison, compare, model_of
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
RNG = np.random.default_rng(0)
ANGLES = RNG.normal(0, 2, (2, 7, 4))
COS, SIN = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)
Q = RNG.normal(0, 2, (2, 3, 7, 8)).astype(np.float32)
PUBLIC = ["cos", "sin"]


@pytest.mark.parametrize("interleaved", [0, 1])
def test_tables_for_each_sequence(check: Check, interleaved: int) -> None:
    feed = {"q": Q, "cos": COS, "sin": SIN}
    check(compare("RotaryEmbedding", feed, public=PUBLIC, interleaved=interleaved), 5 * UNIT)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_three_axes_and_positions(check: Check, interleaved: int) -> None:
    flat = Q.transpose(0, 2, 1, 3).reshape(2, 7, 24).copy()
    feed = {"q": flat, "cos": COS[0], "sin": SIN[0], "positions": RNG.integers(0, 7, (2, 7))}
    check(compare("RotaryEmbedding", feed, public=PUBLIC, num_heads=3, interleaved=interleaved), 5 * UNIT)


def test_a_part_of_the_features(check: Check) -> None:
    feed = {"q": Q, "cos": COS[..., :2].copy(), "sin": SIN[..., :2].copy()}
    check(compare("RotaryEmbedding", feed, public=PUBLIC, rotary_embedding_dim=4), 5 * UNIT)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_secret_angles(check: Check, interleaved: int) -> None:
    feed = {"q": Q, "cos": COS[..., :2].copy(), "sin": SIN[..., :2].copy()}
    attributes = {"rotary_embedding_dim": 4, "interleaved": interleaved}
    check(compare("RotaryEmbedding", feed, **attributes), 12 * UNIT)
    flat = Q.transpose(0, 2, 1, 3).reshape(2, 7, 24).copy()
    placed = {"q": flat, "cos": COS[0], "sin": SIN[0], "positions": RNG.integers(0, 7, (2, 7))}
    check(compare("RotaryEmbedding", placed, num_heads=3, interleaved=interleaved), 12 * UNIT)


def test_positions_that_only_the_servers_could_compute_are_refused() -> None:
    flat = Q.transpose(0, 2, 1, 3).reshape(2, 7, 24).copy()
    feed = {"q": flat, "cos": COS[0], "sin": SIN[0], "secret_positions": RNG.integers(0, 7, (2, 7))}
    with pytest.raises(UnsupportedModelError, match="secret integers"):
        compare("RotaryEmbedding", feed, public=PUBLIC, num_heads=3)


def test_tables_that_are_too_narrow_are_refused() -> None:
    feed = {"q": Q, "cos": COS[..., :2].copy(), "sin": SIN[..., :2].copy()}
    model = model_of("RotaryEmbedding", feed)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y0", TensorProto.FLOAT, Q.shape))
    with pytest.raises(UnsupportedModelError, match="rotate 4 features of a head, and it asks for 8"):
        MemoryModel(model, public_inputs=PUBLIC, at_client=False, rewrite=False).plan(feed)
