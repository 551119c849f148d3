"""Bits of A + B: one-bit tables of the digits, then an XOR of ANDs of them in one more round.

For each digit the pivot knows A's part and both twins know B's. The pivot sends the masked table of each bit,
2^width entries of one bit, and the twins read entry B. They open the bits that occur in products under masks
that the pivot deals, together with shares of the products of these masks. A polynomial of the bits therefore
costs one round, however deep it is (docs/protocols.md, "Comparison").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, TypeAlias

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost, packed
from onnxpuma.mpc.forms import Bit, Split
from onnxpuma.mpc.party import PIVOT, Maybe, Party, Protocol, U, V, taken
from onnxpuma.mpc.protocols.convert import deal_cost
from onnxpuma.mpc.ring.arrays import as_plane, flat, indices, integers, nothing, stacked, zeros
from onnxpuma.mpc.ring.steps import program, xor_ands
from onnxpuma.mpc.ring.words import Words, from_integers

Path: TypeAlias = tuple[int, ...]  # an AND of tables, by their numbers
Polynomial: TypeAlias = frozenset[frozenset[int]]  # XOR of ANDs; the empty AND is the constant one
Truth: TypeAlias = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Table:
    """A bit that depends on one digit of A and the same digit of B: truth(a, b)."""

    name: str
    shift: int
    width: int
    truth: Truth

    @cached_property
    def entries(self) -> Words:
        """For each digit a of A the word whose bit b is truth(a, b)."""
        digits = indices(1 << self.width)
        bits = integers(self.truth(digits[:, None], digits[None, :]))
        return from_integers((bits << digits).sum(axis=1), 1 << self.width)


@dataclass(frozen=True)
class Circuit:
    """Tables over the digits of a value of k bits, and outputs that are polynomials of them."""

    bits: int
    tables: tuple[Table, ...]
    outputs: tuple[Polynomial, ...]
    opened: tuple[int, ...] = field(init=False)  # tables that occur in products
    products: tuple[Path, ...] = field(init=False)  # whose masks the pivot multiplies

    def __post_init__(self) -> None:
        terms = {tuple(sorted(t)) for output in self.outputs for t in output if len(t) > 1}
        object.__setattr__(self, "opened", tuple(sorted({i for t in terms for i in t})))
        subsets = {s for t in terms for size in range(2, len(t) + 1) for s in combinations(t, size)}
        object.__setattr__(self, "products", tuple(sorted(subsets)))

    @cached_property
    def masks(self) -> Words:
        """The program (`xor_ands`) that multiplies the masks of the opened bits."""
        row_of = {name: row for row, name in enumerate(self.opened)}
        entries = [[row, len(p), *(row_of[i] for i in p)] for row, p in enumerate(self.products)]
        return program(entries)

    @cached_property
    def expanded(self) -> tuple[Words, Words]:
        """The programs of v's and u's shares: a product of (opened xor mask) is expanded over the masks."""
        number = len(self.opened)
        public = {name: row for row, name in enumerate(self.opened)}
        shared: dict[Path, int] = {(name,): number + row for name, row in public.items()}
        shared |= {path: 2 * number + row for row, path in enumerate(self.products)}
        tables = 2 * number + len(self.products)  # the row of the first of them
        at_both, at_u = [list[list[int]]() for _ in range(2)]  # u alone adds what is public
        for target, output in enumerate(self.outputs):
            for factors in sorted(tuple(sorted(term)) for term in output):
                if len(factors) == 1:
                    at_both.append([target, 1, tables + factors[0]])
                    continue
                at_u.append([target, len(factors), *(public[i] for i in factors)])
                for kept in range(1, len(factors) + 1):
                    for subset in combinations(factors, kept):
                        rest = [public[i] for i in factors if i not in subset]
                        at_both.append([target, 1 + len(rest), shared[subset], *rest])
        return program(at_both), program([*at_both, *at_u])

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
    if x.bits != circuit.bits:
        raise ProtocolError(
            f"a circuit of {circuit.bits} bits for {x}", "read the value in a ring of that many bits"
        )
    role, n = party.role(x.pivot), x.size
    if role == PIVOT:
        return (yield from _lead(party, x, circuit))
    p, opened, products = x.pivot, len(circuit.opened), len(circuit.products)
    key, plane_bytes = p + 1 if role == U else p, -(-n // 8)
    late: list[Maybe] = [_dealt(party, role, p, (n,), 1 << table.width) for table in circuit.tables]
    mask = party.draw_planes(key, opened, n)
    if opened and role == U:
        late.append(party.draw_planes(p + 1, products, n))
    elif opened:
        late.append(party.expect(p, (products, plane_bytes), 8))
    yield
    # 2. the twins read entry B of every table, and open the bits that occur in products
    words = flat(x.words)
    planes = [
        as_plane(ring.pick_bits(taken(entries), words, table.shift, table.width))
        for entries, table in zip(late, circuit.tables, strict=False)
    ]
    public: list[Words] = []
    if opened:
        mine = stacked([planes[i] for i in circuit.opened]) ^ mask
        other = p + (V if role == U else U)
        party.send(other, mine, 8)
        theirs = party.expect(other, mine.shape, 8)
        yield
        public = [mine ^ theirs.take(), mask, taken(late[-1])]
    # 3. each output is local
    shares = shares_of(circuit, role, plane_bytes, planes, *public)
    return [Bit(role, p, plane, x.shape) for plane in shares]


def _lead(party: Party, x: Split, circuit: Circuit) -> Protocol[list[Bit]]:
    """The pivot's part: it sends everything in the first round."""
    p, n = x.pivot, x.size
    words = flat(x.words)
    # 1. the table of every bit at this A, masked, and the products of the masks of the opened bits
    for table in circuit.tables:
        hidden = party.draw(p + 1, (n,), 1 << table.width)
        masked = ring.table_bits(words, table.shift, table.width, table.entries, hidden)
        party.send(p + 2, masked, 1 << table.width)
    if circuit.opened:
        opened = len(circuit.opened)
        mask = party.draw_planes(p + 1, opened, n) ^ party.draw_planes(p, opened, n)
        shares = party.draw_planes(p + 1, len(circuit.products), n)
        xor_ands(shares, circuit.masks, [mask])
        party.send(p + 2, shares, 8)
        yield
    yield
    return [Bit(PIVOT, p, nothing((-(-n // 8),), 8), x.shape) for _ in circuit.outputs]


def _dealt(party: Party, role: int, pivot: int, shape: tuple[int, ...], bits: int) -> Maybe:
    """A twin's share of words that the pivot masks by xor: u derives the mask, the pivot sends v the rest."""
    return party.draw(pivot + 1, shape, bits) if role == U else party.expect(pivot, shape, bits)


def shares_of(circuit: Circuit, role: int, size: int, held: Sequence[Words], *opened: Words) -> list[Words]:
    """This twin's share of each output, planes of `size` bytes.

    held: its shares of all tables' bits. opened: of the tables in products the bits under their masks, these
    masks' shares, and the shares of their products.
    """
    found = zeros((len(circuit.outputs), size), 8, held[0])
    xor_ands(found, circuit.expanded[role == U], [*opened, *held])
    return list(found)


def xor(*terms: Sequence[int]) -> Polynomial:
    """The polynomial that is the XOR of these ANDs."""
    result: set[frozenset[int]] = set()
    for term in terms:
        result ^= {frozenset(term)}
    return frozenset(result)
