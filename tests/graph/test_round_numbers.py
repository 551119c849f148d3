"""A number is round if an architecture would contain it; very few numbers are."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.graph.round_numbers import is_root_of, is_round

FLOAT = np.float32


def held(number: float) -> float:
    return float(FLOAT(number))


@pytest.mark.parametrize(
    "number",
    [
        *(0, 1, -1, 2, 3, 8, 12, 100, 255, 1000, 1024),
        *(0.5, 0.125, 2.0**-20, 2.0**-126, -4096.0),
        *(1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 0.01, 0.1, -1e4, 1e9, 1e30),
        *(1 / 255, 1 / 3, 1 / 7, 0.2, 0.05),
        *(64**-0.5, 80**-0.5, 128**-0.5, 768**0.5, 3072**0.5, 64**-0.25, 96**0.25),
        *(np.sqrt(2 / np.pi), 0.044715, np.sqrt(2), np.sqrt(0.5), 1.702, np.log2(np.e), np.log(2), np.pi),
        *(np.inf, -np.inf, np.nan, np.finfo(FLOAT).min, np.finfo(np.float16).max),
        0.1 * np.log(32) + 1,
    ],
)
def test_round(number: float) -> None:
    assert is_round(held(number))
    assert is_round(-held(number))


@pytest.mark.parametrize(
    "number",
    [
        0.3,
        0.37,
        0.1307,
        0.3081,
        0.485,
        1.0001,
        1.5,
        0.75,
        0.8,
        0.1001,
        2.6592,
        4.6052,
        14.2857,
        117.3,
        1025.0,
    ],
)
def test_not_round(number: float) -> None:
    assert not is_round(held(number))
    assert not is_round(-held(number))


@pytest.mark.parametrize(("low", "high"), [(0.01, 10), (1e-4, 0.01), (1, 1000)])
def test_of_all_numbers_fewer_than_one_in_a_thousand_is_round(low: float, high: float) -> None:
    drawn = np.random.default_rng(5).uniform(np.log(low), np.log(high), 20_000)
    assert np.mean([is_round(held(number)) for number in np.exp(drawn)]) < 1e-3


@pytest.mark.parametrize(("kind", "most"), [("float16", 0.01), ("bfloat16", 0.02)])
def test_in_half_precision_few_are_too(kind: str, most: float) -> None:
    numbers = np.random.default_rng(6).normal(size=20_000).astype(FLOAT)
    if kind == "float16":
        numbers = numbers.astype(np.float16).astype(FLOAT)
    else:
        numbers = (numbers.view(np.uint32) & np.uint32(0xFFFF0000)).view(FLOAT)
    assert np.mean([is_round(float(number), coarse=True) for number in numbers]) < most


def test_roots_of_a_width_in_every_precision() -> None:
    for width in (64, 80, 128):
        for power in (-0.5, -0.25):
            root = width**power
            bits = FLOAT(root).view(np.uint32) + np.uint32(0x8000)
            in_bfloat16 = (bits & np.uint32(0xFFFF0000)).view(FLOAT)
            for number in (held(root), float(np.float16(root)), float(in_bfloat16)):
                assert is_root_of(number, width)
                assert not is_root_of(number, width + 16)
            assert not is_root_of(root * 1.001, width)
    assert not is_root_of(0.125, None)
