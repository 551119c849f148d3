"""Equality of wide values, exact in every bit, and polynomials of shared bits.

A long value would take too many products of digits at once, so one round joins the digits of each block and
one more joins the blocks (docs/protocols.md, "Comparison").
"""

from __future__ import annotations

from functools import cache

from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Bit, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.boolean import Circuit, Polynomial, Table, evaluate, shares_of, xor
from onnxpuma.mpc.ring.arrays import nothing, stacked
from onnxpuma.mpc.ring.steps import xor_ands

DIGIT = 4
BLOCK = 4  # digits


def _blocks(digits: int) -> list[range]:
    return [range(start, min(start + BLOCK, digits)) for start in range(0, digits, BLOCK)]


@cache
def zero_circuits(bits: int) -> tuple[Circuit, tuple[Polynomial, ...]]:
    """(digits to blocks, blocks to [A = B mod 2^bits])."""
    digits = bits // DIGIT
    tables = tuple(Table(f"equal{d}", d * DIGIT, DIGIT, lambda a, b: a == b) for d in range(digits))
    blocks = _blocks(digits)
    return Circuit(bits, tables, tuple(xor(list(b)) for b in blocks)), (xor(range(len(blocks))),)


@cache
def _circuit(outputs: tuple[Polynomial, ...]) -> Circuit:
    return Circuit(0, (), outputs)


def combined(party: Party, bits: list[Bit], outputs: tuple[Polynomial, ...]) -> Protocol[list[Bit]]:
    """Polynomials of XOR-shared bits of one pivot; exact.

    Masks: each opened bit by one bit of F_{p+1} and one of F_p, the products of masks by F_{p+1}.
    Rounds: 1, or none if all outputs are linear; bits: `combined_cost`.
    """
    first = bits[0]
    p, role, n = first.pivot, first.role, first.size
    circuit, planes = _circuit(outputs), -(-n // 8)
    opened, products = len(circuit.opened), len(circuit.products)
    held = [bit.plane for bit in bits]
    if not opened:  # all outputs are linear
        return [Bit(role, p, plane, first.shape) for plane in shares_of(circuit, role, planes, held)]
    if role == PIVOT:
        mask = party.draw_planes(p + 1, opened, n) ^ party.draw_planes(p, opened, n)
        shares = party.draw_planes(p + 1, products, n)
        xor_ands(shares, circuit.masks, [mask])
        party.send(p + 2, shares, 8)
        yield
        return [Bit(PIVOT, p, nothing((planes,), 8), first.shape) for _ in outputs]
    mask = party.draw_planes(p + 1 if role == U else p, opened, n)
    late = party.draw_planes(p + 1, products, n) if role == U else party.expect(p, (products, planes), 8)
    mine = stacked([bits[i].plane for i in circuit.opened]) ^ mask
    other = p + (V if role == U else U)
    party.send(other, mine, 8)
    theirs = party.expect(other, mine.shape, 8)
    yield
    found = shares_of(circuit, role, planes, held, mine ^ theirs.take(), mask, taken(late))
    return [Bit(role, p, plane, first.shape) for plane in found]


def combined_cost(elements: int, outputs: tuple[Polynomial, ...]) -> Cost:
    circuit = _circuit(outputs)
    planes = len(circuit.products) + 2 * len(circuit.opened)
    return Cost(1 if circuit.opened else 0, packed(elements, 1) * planes)


def wide_zero(party: Party, x: Split) -> Protocol[Bit]:
    """[x = 0] of Split(p) mod 2^k, as [-A = B]; exact. Rounds: 3; bits: `wide_zero_cost`."""
    blocks, last = zero_circuits(x.bits)
    (bit,) = yield from combined(party, (yield from evaluate(party, x.opposed(), blocks)), last)
    return bit


def wide_zero_cost(elements: int, bits: int) -> Cost:
    blocks, last = zero_circuits(bits)
    return blocks.cost(elements) + combined_cost(elements, last)
