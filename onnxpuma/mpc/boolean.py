"""Bits of A + B: one-bit tables of the digits, then an XOR of ANDs of them in one more round.

For each digit the pivot knows A's digit and both twins know B's. The pivot sends the masked table of every
wanted bit, 2^width entries of one bit, and the twins read entry B. The twins open the bits that occur in
products under masks dealt by the pivot, which also dealt shares of the products of those masks, so any
polynomial of the bits costs one round however deep it is (protocols.md, section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.convert import deal_cost
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.party import PIVOT, U, V, Party, Protocol, nothing
from onnxpuma.mpc.shares import Bit, Split
from onnxpuma.mpc.words import Words, word_type

Term = frozenset[int]
Polynomial = frozenset[Term]  # XOR of ANDs; the empty term is the constant one


@dataclass(frozen=True)
class Table:
    """A bit that depends on one digit of A and the same digit of B: `truth(a, b)`."""

    name: str
    shift: int
    width: int
    truth: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @cached_property
    def entries(self) -> Words:
        """For each digit of A the word whose bit b is truth(A, b)."""
        digits = np.arange(1 << self.width)
        bits = np.asarray(self.truth(digits[:, None], digits[None, :])).astype(np.uint64)
        return (
            (bits << digits.astype(np.uint64)).sum(axis=1, dtype=np.uint64).astype(word_type(1 << self.width))
        )


@dataclass(frozen=True)
class Circuit:
    """Tables over the digits of a k-bit value, and outputs as polynomials of them."""

    bits: int
    tables: tuple[Table, ...]
    outputs: tuple[Polynomial, ...]
    opened: tuple[int, ...] = field(init=False)
    products: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        terms = {tuple(sorted(t)) for output in self.outputs for t in output if len(t) > 1}
        object.__setattr__(self, "opened", tuple(sorted({i for t in terms for i in t})))
        subsets = {s for t in terms for size in range(2, len(t) + 1) for s in combinations(t, size)}
        object.__setattr__(self, "products", tuple(sorted(subsets)))

    def cost(self, elements: int) -> Cost:
        """Rounds: 2 (1 without products), the first one way from the pivot."""
        plane = packed(elements, 1)
        tables = Cost(1, sum(deal_cost(elements, 1 << t.width).bits for t in self.tables))
        if not self.opened:
            return tables
        return tables + Cost(1, plane * (len(self.products) + 2 * len(self.opened)))


def evaluate(party: Party, x: Split, circuit: Circuit) -> Protocol[list[Bit]]:
    """Split(p) mod 2^k to the circuit's outputs, XOR-shared between the twins; exact.

    Masks: each table by F_{p+1}; each opened bit by one bit of F_{p+1} and one of F_p; the products of
    masks by F_{p+1}. Rounds and bits: `circuit.cost`.
    """
    p, role, n = x.pivot, party.role(x.pivot), x.size
    opened, products = len(circuit.opened), len(circuit.products)
    late_tables, late_products = [], None
    tables: list[Words] = []
    mask = product_share = np.empty((0, 0), np.uint8)

    if role == PIVOT:
        words = np.ascontiguousarray(x.words).reshape(-1)
        for table in circuit.tables:
            hidden = party.draw(p + 1, (n,), 1 << table.width)
            masked = ring.table_bits(words, table.shift, table.width, table.entries, hidden)
            party.send(p + 2, masked, 1 << table.width)
        if opened:
            mask = party.draw_planes(p + 1, opened, n) ^ party.draw_planes(p, opened, n)
            place = {name: i for i, name in enumerate(circuit.opened)}
            share = party.draw_planes(p + 1, products, n)
            for row, subset in enumerate(circuit.products):
                share[row] ^= np.bitwise_and.reduce(mask[[place[i] for i in subset]], axis=0)
            party.send(p + 2, share, 8)
        yield
        if opened:
            yield
        return [Bit(role, p, nothing((-(-n // 8),), 8), x.shape) for _ in circuit.outputs]

    if role == U:
        tables = [party.draw(p + 1, (n,), 1 << table.width) for table in circuit.tables]
        if opened:
            mask = party.draw_planes(p + 1, opened, n)
            product_share = party.draw_planes(p + 1, products, n)
    else:
        late_tables = [party.expect(p, (n,), 1 << table.width) for table in circuit.tables]
        if opened:
            mask = party.draw_planes(p, opened, n)
            late_products = party.expect(p, (products, -(-n // 8)), 8)
    yield
    if role == V:
        tables = [late.take() for late in late_tables]
        if late_products is not None:
            product_share = late_products.take()
    words = np.ascontiguousarray(x.words).reshape(-1)
    planes = [
        np.packbits(ring.pick_bits(words_of, words, table.shift, table.width), bitorder="little")
        for words_of, table in zip(tables, circuit.tables, strict=True)
    ]
    public: dict[int, Words] = {}
    if opened:
        mine = np.stack([planes[i] for i in circuit.opened])
        mine ^= mask
        other = p + (2 if role == U else 1)
        party.send(other, mine, 8)
        late = party.expect(other, mine.shape, 8)
        yield
        total = mine ^ late.take()
        public = {i: total[row] for row, i in enumerate(circuit.opened)}
    shared = {(i,): mask[row] for row, i in enumerate(circuit.opened)}
    shared.update({s: product_share[row] for row, s in enumerate(circuit.products)})
    return [
        Bit(role, p, _output(o, role, planes, public, shared, -(-n // 8)), x.shape) for o in circuit.outputs
    ]


def _output(
    polynomial: Polynomial,
    role: int,
    planes: Sequence[Words],
    public: dict[int, Words],
    shared: dict[tuple[int, ...], Words],
    size: int,
) -> Words:
    """This twin's share of one polynomial: a product of (opened xor mask) is expanded over the masks."""
    out = np.zeros(size, np.uint8)
    for term in polynomial:
        factors = tuple(sorted(term))
        if not factors:
            if role == U:
                out = ~out
            continue
        if len(factors) == 1:
            out ^= planes[factors[0]]
            continue
        for kept in range(len(factors) + 1):
            if kept == 0 and role == V:
                continue
            for subset in combinations(factors, kept):
                rest = [public[i] for i in factors if i not in subset]
                value = shared[subset] if subset else rest.pop()
                for plane in rest:
                    value = value & plane
                out ^= value
    return out


def xor(*terms: Sequence[int]) -> Polynomial:
    """The polynomial that is the XOR of these ANDs."""
    result: set[Term] = set()
    for term in terms:
        result ^= {frozenset(term)}
    return frozenset(result)
