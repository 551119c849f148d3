"""Comparison with zero and with a window, for a value split by a pivot (protocols.md, section 7).

A comparison needs resolution only where a wrong answer would hurt, so the operand is first read with few
bits. Digits of four bits: tables of sixteen entries.
"""

from __future__ import annotations

from functools import lru_cache

from onnxpuma.mpc.boolean import Circuit, Table, evaluate, xor
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Bit, Split

DIGIT = 4


def _digits(bits: int, digit: int) -> list[tuple[int, int]]:
    """(shift, width) of each digit from the lowest; the top one takes what is left."""
    return [(start, min(digit, bits - start)) for start in range(0, bits, digit)]


@lru_cache(maxsize=None)
def sign_circuit(bits: int, digit: int = DIGIT) -> Circuit:
    """Output 0: the most significant bit of A + B mod 2^bits. 16 bits: 17 bytes; 12 bits: 11.6 bytes."""
    tables: list[Table] = []
    carry: list[tuple[int, ...]] = []
    digits = _digits(bits, digit)
    for shift, width in digits[:-1]:
        full = 1 << width
        here = len(tables)
        tables.append(Table(f"generate{shift}", shift, width, lambda a, b, f=full: a + b >= f))
        if shift:
            tables.append(Table(f"propagate{shift}", shift, width, lambda a, b, f=full: a + b == f - 1))
            carry = [(here,)] + [(here + 1, *term) for term in carry]
        else:
            carry = [(here,)]
    shift, width = digits[-1]
    half, here = 1 << (width - 1), len(tables)
    tables.append(Table("sign", shift, width, lambda a, b, h=half: ((a + b) & h) > 0))
    if carry:
        tables.append(Table("flip", shift, width, lambda a, b, h=half: (((a + b + 1) ^ (a + b)) & h) > 0))
    return Circuit(bits, tuple(tables), (xor((here,), *((here + 1, *term) for term in carry)),))


@lru_cache(maxsize=None)
def window_circuit(bits: int, width: int, digit: int = DIGIT) -> Circuit:
    """Outputs: [0 <= x < width], [x >= width], of a signed x mod 2^bits, width at most 16.

    All events that a digit can contribute to are disjoint, so that a run of zero digits is an XOR of
    paths: the value is inside when the digits above the window are zero, carry included.
    """
    if not 0 < width <= 1 << digit < 1 << bits:
        raise ValueError("the window lies inside the lowest digit, and there is more than one digit")
    inside, base = width, 1 << digit
    tables: list[Table] = []

    def add(name: str, shift: int, size: int, truth: object) -> int:
        tables.append(Table(f"{name}{shift}", shift, size, truth))  # type: ignore[arg-type]
        return len(tables) - 1

    digits = _digits(bits, digit)
    low = add("low", 0, digit, lambda a, b: a + b < inside)
    low_carry = add("low_carry", 0, digit, lambda a, b: (a + b >= base) & (a + b - base < inside))
    carry = [(add("generate", 0, digit, lambda a, b: a + b >= base),)]
    still, carried = [(low,)], [(low_carry,)]  # the digits so far are inside, without and with a carry out
    for shift, size in digits[1:-1]:
        full = 1 << size
        zero = add("zero", shift, size, lambda a, b: a + b == 0)
        wrap = add("wrap", shift, size, lambda a, b, f=full: a + b == f)
        propagate = add("propagate", shift, size, lambda a, b, f=full: a + b == f - 1)
        generate = add("generate", shift, size, lambda a, b, f=full: a + b >= f)
        carried = [(wrap, *t) for t in still] + [(propagate, *t) for t in carried]
        still = [(zero, *t) for t in still]
        carry = [(generate,)] + [(propagate, *t) for t in carry]
    shift, size = digits[-1]
    full, half = 1 << size, 1 << (size - 1)
    zero = add("zero", shift, size, lambda a, b: (a + b) % full == 0)
    one_less = add("one_less", shift, size, lambda a, b: (a + b + 1) % full == 0)
    sign = add("sign", shift, size, lambda a, b: ((a + b) & half) > 0)
    flip = add("flip", shift, size, lambda a, b: (((a + b + 1) ^ (a + b)) & half) > 0)
    paths = [(zero, *t) for t in still] + [(one_less, *t) for t in carried]
    negative = [(sign,)] + [(flip, *t) for t in carry]
    return Circuit(bits, tuple(tables), (xor(*paths), xor((), *paths, *negative)))


def is_negative(party: Party, x: Split) -> Protocol[Bit]:
    """[x < 0] of Split(p) mod 2^k; exact. Rounds: 2; bits: `is_negative_cost`."""
    (bit,) = yield from evaluate(party, x, sign_circuit(x.bits))
    return bit


def is_negative_cost(elements: int, bits: int) -> Cost:
    return sign_circuit(bits).cost(elements)


def locate(party: Party, x: Split, width: int) -> Protocol[tuple[Bit, Bit]]:
    """([0 <= x < width], [x >= width]) of Split(p); exact. Rounds: 2; bits: `locate_cost`."""
    inside, above = yield from evaluate(party, x, window_circuit(x.bits, width))
    return inside, above


def locate_cost(elements: int, bits: int, width: int) -> Cost:
    return window_circuit(bits, width).cost(elements)
