"""Whether a value lies in a window at the top of its range, from the digits of A and B above the window.

Where A + B stands for t windows and a remainder, t is known up to one from the top digits a and b alone. So
the question is whether a + b is one of a few numbers, that is whether a is one of a few numbers that the
twins know: an equality of digits, with one table of bits for each (docs/protocols.md, "exp").
"""

from __future__ import annotations

from functools import cache

from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Bit, Split
from onnxpuma.mpc.party import PIVOT, Maybe, Party, Protocol, U, taken
from onnxpuma.mpc.protocols.boolean import Polynomial, xor
from onnxpuma.mpc.protocols.convert import deal_cost
from onnxpuma.mpc.protocols.wide import combined, combined_cost
from onnxpuma.mpc.ring.arrays import as_plane, counting, flat, nothing
from onnxpuma.mpc.ring.words import Words, reduced, word_type

WIDEST_TABLE = 6  # bits of a digit: its table is a word
MOST_DIGITS = 5


@cache
def digits_of(bits: int, cases: int) -> tuple[int, ...]:
    """The widths of the digits of a, the lowest first: one table in one round, or the cheapest in two."""
    if bits <= WIDEST_TABLE:
        return (bits,)
    ways = []
    for count in range(2, MOST_DIGITS + 1):
        widths = tuple((bits + place) // count for place in range(count))[::-1]
        if widths[0] <= WIDEST_TABLE and 1 << widths[0] >= cases:
            ways.append(widths)
    return min(ways, key=lambda widths: _cost(8, widths).bits)


def _polynomials(count: int) -> tuple[Polynomial, ...]:
    return (xor(range(count), range(count, 2 * count)),)


def inside(party: Party, x: Split, shift: int, cases: int) -> Protocol[Bit]:
    """[a + b is 0, -1 ... or 1 - cases], with a and b the digits of A and B above their lowest `shift` bits,
    mod 2^(k - shift); exact.

    Masks: F_{p+1} on each table, those of `combined` on the bits of several. Rounds: 1 for up to 6 bits, else
    2; the first one way from the pivot, which knows its part at once. Bits: `inside_cost`.
    """
    p, role, n = x.pivot, party.role(x.pivot), x.size
    widths = digits_of(x.bits - shift, cases)
    starts = [shift + sum(widths[:place]) for place in range(len(widths))]
    if role == PIVOT:
        # 1. of each digit of A the word whose bit `digit` is set
        words = flat(reduced(x.words, x.bits))
        for start, width in zip(starts, widths, strict=True):
            entries = word_type(1 << width).type(1) << counting(1 << width, 1 << width)
            hidden = party.draw(p + 1, (n,), 1 << width)
            party.send(p + 2, ring.table_bits(words, start, width, entries, hidden), 1 << width)
        yield
        bits = [_bit(x, nothing((-(-n // 8),), 8)) for _ in range(2 * len(widths) if len(widths) > 1 else 1)]
    else:
        late: list[Maybe] = [
            party.draw(p + 1, (n,), 1 << w) if role == U else party.expect(p, (n,), 1 << w) for w in widths
        ]
        yield
        # 2. the twins read the tables at the numbers that a may be
        bits = _read(x, [taken(table) for table in late], shift, widths, cases)
    if len(widths) == 1:
        return bits[0]
    (bit,) = yield from combined(party, bits, _polynomials(len(widths)))
    return bit


def _bit(x: Split, plane: Words) -> Bit:
    return Bit(x.role, x.pivot, plane, x.shape)


def _read(x: Split, tables: list[Words], shift: int, widths: tuple[int, ...], cases: int) -> list[Bit]:
    """This twin's shares of [a's digit is right], for each digit, the lowest first: once for the numbers
    whose higher digits are those of -b, and once for those where they are one less."""
    bits = x.bits - shift
    kind = word_type(bits)
    wanted = reduced(kind.type(0) - (flat(reduced(x.words, x.bits)) >> shift).astype(kind), bits)
    numbers = [reduced(wanted - kind.type(i), bits) for i in range(cases)]
    low = widths[0]
    rows = [ring.pick_bits(tables[0], number, 0, low) for number in numbers]
    if len(widths) == 1:
        total = rows[0]
        for row in rows[1:]:
            total = total ^ row
        return [_bit(x, as_plane(total))]
    same = [(number >> kind.type(low)) == (wanted >> kind.type(low)) for number in numbers]
    found = []
    for lowest, above in ((True, wanted), (False, wanted - kind.type(1 << low))):
        total = rows[0] & (same[0] == lowest)
        for row, equal in zip(rows[1:], same[1:], strict=True):
            total = total ^ (row & (equal == lowest))
        found.append(_bit(x, as_plane(total)))
        start = low
        for table, width in zip(tables[1:], widths[1:], strict=True):
            found.append(_bit(x, as_plane(ring.pick_bits(table, reduced(above, bits), start, width))))
            start += width
    return found


def _cost(elements: int, widths: tuple[int, ...]) -> Cost:
    tables = Cost(1, sum(deal_cost(elements, 1 << width).bits for width in widths))
    return tables if len(widths) == 1 else tables + combined_cost(elements, _polynomials(len(widths)))


def inside_cost(elements: int, bits: int, cases: int) -> Cost:
    """bits: of the digits above the window."""
    return _cost(elements, digits_of(bits, cases))
