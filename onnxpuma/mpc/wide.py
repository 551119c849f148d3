"""Comparison of wide values, exact in every bit: groups of bits, then blocks of groups, then the whole.

`compare.py` opens all digits of a short value at once; the products of a long one would be too many. Here
one round gives, for each block, whether it generates a carry and whether it propagates one (or whether it is
zero), and one more round joins the blocks in the same way (docs/protocols.md, "Comparison").
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from onnxpuma.mpc.boolean import Circuit, Polynomial, Table, _output, evaluate, xor
from onnxpuma.mpc.carry import group_carries, group_carries_cost
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, nothing, taken
from onnxpuma.mpc.shares import Bit, Split

DIGIT = 4
BLOCK = 4  # digits


def _blocks(digits: int, size: int = BLOCK) -> list[range]:
    return [range(start, min(start + size, digits)) for start in range(0, digits, size)]


@cache
def _groups(bits: int) -> tuple[int, ...]:
    """Widths of the groups below the top bit, as equal as can be: three bits, or four where it is long."""
    count = -(-(bits - 1) // (3 if bits <= 49 else 4))
    return tuple((bits - 1 + place) // count for place in range(count))


@cache
def sign_circuits(bits: int) -> tuple[tuple[Polynomial, ...], tuple[Polynomial, ...]]:
    """(groups to blocks, blocks to the most significant bit of A + B mod 2^bits): of what `group_carries`
    gives for `_groups(bits)`, and of the result of that."""
    count = len(_groups(bits))
    outputs: list[Polynomial] = []
    carry: list[tuple[int, ...]] = []
    for number, block in enumerate(_blocks(count, max(1, math.isqrt(max(count - 1, 0)) + 1))):
        paths: list[tuple[int, ...]] = []
        for group in block:
            paths = [(2 * group,)] + [(2 * group + 1, *path) for path in paths]
        outputs += [xor(*paths), xor([2 * group + 1 for group in block] if number else ())]
        carry = [(2 * number,)] + [(2 * number + 1, *path) for path in carry]
    outputs.append(xor((2 * count,)))
    return tuple(outputs), (xor((len(outputs) - 1,), *carry),)


@cache
def zero_circuits(bits: int) -> tuple[Circuit, tuple[Polynomial, ...]]:
    """(digits to blocks, blocks to [A = B mod 2^bits])."""
    digits = bits // DIGIT
    tables = tuple(Table(f"equal{d}", d * DIGIT, DIGIT, lambda a, b: a == b) for d in range(digits))
    blocks = _blocks(digits)
    return Circuit(bits, tables, tuple(xor(list(b)) for b in blocks)), (xor(range(len(blocks))),)


def combined(party: Party, bits: list[Bit], outputs: tuple[Polynomial, ...]) -> Protocol[list[Bit]]:
    """Polynomials of XOR-shared bits of one pivot; exact.

    Masks: each opened bit by one bit of F_{p+1} and one of F_p, the products of masks by F_{p+1}.
    Rounds: 1, none where all is linear; bits: `combined_cost`.
    """
    first = bits[0]
    p, role, n = first.pivot, first.role, first.size
    circuit, planes = Circuit(0, (), outputs), -(-n // 8)
    opened, products = len(circuit.opened), len(circuit.products)
    held = [bit.plane for bit in bits]
    if not opened:  # linear: nothing to open
        return [Bit(role, p, _output(o, role, held, {}, {}, planes), first.shape) for o in outputs]
    if role == PIVOT:
        mask = party.draw_planes(p + 1, opened, n) ^ party.draw_planes(p, opened, n)
        row_of = {name: row for row, name in enumerate(circuit.opened)}
        shares = party.draw_planes(p + 1, products, n)
        for row, product in enumerate(circuit.products):
            shares[row] ^= np.bitwise_and.reduce(mask[[row_of[i] for i in product]], axis=0)
        party.send(p + 2, shares, 8)
        yield
        return [Bit(PIVOT, p, nothing((planes,), 8), first.shape) for _ in outputs]
    mask = party.draw_planes(p + 1 if role == U else p, opened, n)
    late = party.draw_planes(p + 1, products, n) if role == U else party.expect(p, (products, planes), 8)
    mine = np.stack([bits[i].plane for i in circuit.opened]) ^ mask
    other = p + (V if role == U else U)
    party.send(other, mine, 8)
    theirs = party.expect(other, mine.shape, 8)
    yield
    public = dict(zip(circuit.opened, mine ^ theirs.take(), strict=True))
    shared: dict[tuple[int, ...], np.ndarray] = {
        (name,): row for name, row in zip(circuit.opened, mask, strict=True)
    }
    shared.update(zip(circuit.products, taken(late), strict=True))
    return [Bit(role, p, _output(o, role, held, public, shared, planes), first.shape) for o in outputs]


def combined_cost(elements: int, outputs: tuple[Polynomial, ...]) -> Cost:
    circuit = Circuit(0, (), outputs)
    planes = len(circuit.products) + 2 * len(circuit.opened)
    return Cost(1 if circuit.opened else 0, packed(elements, 1) * planes)


def wide_negative(party: Party, x: Split) -> Protocol[Bit]:
    """[x < 0] of Split(p) mod 2^k; exact. Rounds: 3, fewer for a few bits; bits: `wide_negative_cost`."""
    first, last = sign_circuits(x.bits)
    bits = yield from group_carries(party, x, _groups(x.bits))
    (bit,) = yield from combined(party, (yield from combined(party, bits, first)), last)
    return bit


def wide_negative_cost(elements: int, bits: int) -> Cost:
    first, last = sign_circuits(bits)
    dealt = group_carries_cost(elements, _groups(bits))
    return dealt + combined_cost(elements, first) + combined_cost(elements, last)


def wide_zero(party: Party, x: Split) -> Protocol[Bit]:
    """[x = 0] of Split(p) mod 2^k: A's negative equals B; exact. Rounds: 3; bits: `wide_zero_cost`."""
    blocks, last = zero_circuits(x.bits)
    words = x.words.dtype.type(0) - x.words if x.role == PIVOT else x._words
    compared = Split(x.role, x.pivot, words, x.bits, x.fraction)
    (bit,) = yield from combined(party, (yield from evaluate(party, compared, blocks)), last)
    return bit


def wide_zero_cost(elements: int, bits: int) -> Cost:
    blocks, last = zero_circuits(bits)
    return blocks.cost(elements) + combined_cost(elements, last)
