"""The reciprocal roots of the rows of a normalisation.

A row's sum of squares is a dot product, so one element a row leaves the party.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from onnxpuma.mpc.cost import Cost, Network
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import multiply, sum_of_squares
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.pivots import FEW_ROWS, each_led, over_parts, slices, spread_all
from onnxpuma.mpc.protocols.reciprocal import inverse_cost, rsqrt, rsqrt_at_twins, rsqrt_at_twins_cost
from onnxpuma.mpc.protocols.times_power import fastest
from onnxpuma.mpc.protocols.wide_root import (
    Readings,
    wide_rsqrt,
    wide_rsqrt_at_twins,
    wide_rsqrt_at_twins_cost,
    wide_rsqrt_cost,
)
from onnxpuma.ops.rows import PRODUCT, Centring, Rows


def roots(party: Party, x: Replicated, rows: Rows) -> Protocol[Replicated]:
    """gain / sqrt(what is read + offset) of each row, (rows,), `root_fraction` fraction bits."""
    readings = [x, x.lowered(rows.shift)] if rows.shift else [x]
    gain, made, way = rows.gain, x.format.at(rows.root_fraction), rows.way

    def root(squares: Sequence[Sum3], pivot: int) -> Protocol[list[Replicated]]:
        if len(squares) == 1:
            return [(yield from rsqrt(party, squares[0], pivot, made, rows.digits, gain, way))]
        fine, coarse = squares
        return [(yield from wide_rsqrt(party, fine, coarse, pivot, made, rows.digits[0], gain, way))]

    squares = [_squares(party, reading, rows) for reading in readings]
    (found,) = yield from spread_all(party, squares, root, FEW_ROWS)
    return found


def roots_at_twins(party: Party, x: Replicated, rows: Rows) -> Protocol[list[LongPair]]:
    """`roots` of each part of the rows (`parts_of`), mod 2^(ring + rows.wider)."""
    squares = [_squares(party, x, rows)]
    if rows.shift:
        squares.append(_squares(party, x.lowered(rows.shift), rows))
    made, low, rest = x.format.at(rows.root_fraction), rows.digits[0], (rows.gain, rows.way, rows.wider)

    def root(piece: slice, pivot: int) -> Protocol[LongPair]:
        if not rows.shift:
            return rsqrt_at_twins(party, squares[0][piece], pivot, made, rows.digits, *rest)
        return wide_rsqrt_at_twins(party, squares[0][piece], squares[1][piece], pivot, made, low, *rest)

    return (yield from each_led(party, parts_of(rows), root))


def parts_of(rows: Rows) -> list[slice]:
    """The rows that each pivot leads."""
    return slices(rows.number, FEW_ROWS)


@lru_cache(1024)
def roots_at_twins_cost(rows: Rows) -> Cost:
    fine, made = PRODUCT.fraction, RESTING.at(rows.root_fraction)
    rest = rows.gain, rows.way, rows.wider

    def root(size: int) -> Cost:
        if not rows.shift:
            return rsqrt_at_twins_cost(size, rows.digits, fine, made, *rest)
        return wide_rsqrt_at_twins_cost(size, _readings(rows), made, rows.digits[0], *rest)

    return over_parts(rows.number, root, FEW_ROWS)


def _readings(rows: Rows) -> Readings:
    fine = PRODUCT.fraction
    return Readings(fine, Format(RESTING.bits - rows.shift, fine - 2 * rows.shift))


def _squares(party: Party, x: Replicated, rows: Rows) -> Sum3:
    """The sum of squares of each row, and the offset, (rows,)."""
    squares = sum_of_squares(party, x, rows.axes).reshape(-1)
    if rows.centring is Centring.EXACT:  # n sum(x^2) - sum(x)^2; the result fits, though the terms may wrap
        total = x.sum(rows.axes).reshape(-1)
        squares = squares.times_integers(rows.count) - multiply(party, total, total)
    return squares.plus_numbers(rows.offset)


def fastest_roots(rows: Rows, network: Network) -> Rows:
    """The same rows, with the way to their roots that takes the least time on this network."""
    return replace(rows, way=fastest(network, lambda way: roots_cost(replace(rows, way=way))))


@lru_cache(1024)
def roots_cost(rows: Rows) -> Cost:
    gain, fine, made = rows.gain, PRODUCT.fraction, RESTING.at(rows.root_fraction)

    def root(size: int) -> Cost:
        if not rows.shift:
            return inverse_cost("rsqrt", size, rows.digits, fine, made, gain, way=rows.way)
        return wide_rsqrt_cost(size, _readings(rows), made, rows.digits[0], gain, rows.way)

    return over_parts(rows.number, root, FEW_ROWS)
