"""The sign from shared products of A's bits: every value, every share, at the declared cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols.carry import group_carries, group_carries_cost, products_of
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.simulate import simulate


def every_share(bits: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(np.arange(1 << bits), np.arange(1 << bits))
    return a.reshape(-1).astype(np.uint8), b.reshape(-1).astype(np.uint8)


def seen(party: Party, a: np.ndarray, b: np.ndarray, bits: int, pivot: int) -> Split:
    role = party.role(pivot)
    return Split(role, pivot, a if role == PIVOT else b, Format(bits, 0))


def opened(run: Any, number: int, pivot: int) -> np.ndarray:
    shares = [run.results[(pivot + twin) % 3][number] for twin in (1, 2)]
    return np.unpackbits(shares[0].plane ^ shares[1].plane, count=shares[0].size, bitorder="little")


@pytest.mark.parametrize("pivot", [0, 1, 2])
@pytest.mark.parametrize("widths", [(1,), (1, 1), (3,), (2, 3), (4, 2), (1, 3, 3)])
def test_what_a_group_does_with_a_carry(widths: tuple[int, ...], pivot: int) -> None:
    bits = sum(widths) + 1
    a, b = every_share(bits)

    def program(party: Party) -> Protocol[Any]:
        return (yield from group_carries(party, seen(party, a, b, bits, pivot), widths))

    run = simulate(program)
    assert run.cost == group_carries_cost(a.size, widths)
    start = 0
    for number, width in enumerate(widths):
        digits = ((a >> start) & ((1 << width) - 1)) + ((b >> start) & ((1 << width) - 1))
        assert np.array_equal(opened(run, 2 * number, pivot), digits >= 1 << width)
        assert np.array_equal(opened(run, 2 * number + 1, pivot), digits == (1 << width) - 1)
        start += width
    assert np.array_equal(opened(run, 2 * len(widths), pivot), (a ^ b) >> start)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_sign_of_every_value_and_every_share(bits: int) -> None:
    a, b = every_share(bits)

    def program(party: Party) -> Protocol[Any]:
        return [(yield from wide_negative(party, seen(party, a, b, bits, 1)))]

    run = simulate(program)
    assert run.cost == wide_negative_cost(a.size, bits)
    assert np.array_equal(opened(run, 0, 1), ((a + b) >> (bits - 1)) & 1)


def test_three_bits_are_seven_products() -> None:
    assert products_of((3, 3, 2)) == 7 + 7 + 3 + 1
    assert wide_negative_cost(8, 27).bits <= 8 * 122
