"""Comparison with zero and with a window, for a value split by a pivot (docs/protocols.md, "Comparison").

A comparison needs resolution only where a wrong answer would hurt, so the operand is first read with few
bits. Digits of four bits: tables of sixteen entries.
"""

from __future__ import annotations

from functools import cache

from onnxpuma.mpc.boolean import Circuit, Path, Table, Truth, evaluate, xor
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Bit, Split

DIGIT = 4


def _digits(bits: int, digit: int) -> list[tuple[int, int]]:
    """(shift, width) of each digit from the lowest; the top one takes what is left."""
    return [(start, min(digit, bits - start)) for start in range(0, bits, digit)]


def _carries(full: int) -> Truth:
    return lambda a, b: a + b >= full


def _equals(value: int) -> Truth:
    return lambda a, b: a + b == value


def _vanishes(full: int, carry: int) -> Truth:
    return lambda a, b: (a + b + carry) % full == 0


def _has(half: int) -> Truth:
    return lambda a, b: ((a + b) & half) > 0


def _flips(half: int) -> Truth:
    """The carry from below would change the top bit."""
    return lambda a, b: (((a + b + 1) ^ (a + b)) & half) > 0


@cache
def sign_circuit(bits: int, digit: int = DIGIT) -> Circuit:
    """Output 0: the most significant bit of A + B mod 2^bits. Digits of four: 16 bits cost 17.4 bytes."""
    tables: list[Table] = []

    def add(name: str, shift: int, size: int, truth: Truth) -> int:
        tables.append(Table(f"{name}{shift}", shift, size, truth))
        return len(tables) - 1

    carry: list[Path] = []  # out of the digits so far, as an XOR of paths
    *lower, (top, size) = _digits(bits, digit)
    for shift, width in lower:
        generate = add("generate", shift, width, _carries(1 << width))
        if shift:
            propagate = add("propagate", shift, width, _equals((1 << width) - 1))
            carry = [(propagate, *path) for path in carry]
        carry = [(generate,), *carry]
    sign = add("sign", top, size, _has(1 << (size - 1)))
    paths: list[Path] = [(sign,)]
    if carry:
        flip = add("flip", top, size, _flips(1 << (size - 1)))
        paths += [(flip, *path) for path in carry]
    return Circuit(bits, tuple(tables), (xor(*paths),))


@cache
def window_circuit(bits: int, width: int, digit: int = DIGIT) -> Circuit:
    """Outputs: [0 <= x < width], [x >= width], of a signed x mod 2^bits; width at most 2^digit.

    All events that a digit can contribute to are disjoint, so that a run of zero digits is an XOR of
    paths: the value is inside when the digits above the window are zero, carry included.
    """
    if not 0 < width <= 1 << digit < 1 << bits:
        raise ValueError("the window lies inside the lowest digit, and there is more than one digit")
    base = 1 << digit
    tables: list[Table] = []

    def add(name: str, shift: int, size: int, truth: Truth) -> int:
        tables.append(Table(f"{name}{shift}", shift, size, truth))
        return len(tables) - 1

    # the digits so far are inside, without a carry out of them and with one; and any carry out of them
    still: list[Path] = [(add("low", 0, digit, lambda a, b: a + b < width),)]
    carried: list[Path] = [
        (add("low_carry", 0, digit, lambda a, b: (a + b >= base) & (a + b - base < width)),)
    ]
    carry: list[Path] = [(add("generate", 0, digit, _carries(base)),)]
    _, *middle, (top, size) = _digits(bits, digit)
    for shift, wide in middle:
        full = 1 << wide
        zero, wrap = add("zero", shift, wide, _equals(0)), add("wrap", shift, wide, _equals(full))
        propagate = add("propagate", shift, wide, _equals(full - 1))
        generate = add("generate", shift, wide, _carries(full))
        carried = [(wrap, *path) for path in still] + [(propagate, *path) for path in carried]
        still = [(zero, *path) for path in still]
        carry = [(generate,)] + [(propagate, *path) for path in carry]
    full, half = 1 << size, 1 << (size - 1)
    zero = add("zero", top, size, _vanishes(full, 0))
    one_less = add("one_less", top, size, _vanishes(full, 1))
    sign, flip = add("sign", top, size, _has(half)), add("flip", top, size, _flips(half))
    inside = [(zero, *path) for path in still] + [(one_less, *path) for path in carried]
    negative = [(sign,), *((flip, *path) for path in carry)]
    return Circuit(bits, tuple(tables), (xor(*inside), xor((), *inside, *negative)))


@cache
def _cheapest_sign(bits: int) -> Circuit:
    """Short digits need small tables, but more products of masks."""
    return min((sign_circuit(bits, digit) for digit in (4, 3, 2)), key=lambda c: c.cost(8).bits)


def is_negative(party: Party, x: Split) -> Protocol[Bit]:
    """[x < 0] of Split(p) mod 2^k; exact. Rounds: 2; bits: `is_negative_cost`."""
    (bit,) = yield from evaluate(party, x, _cheapest_sign(x.bits))
    return bit


def is_negative_cost(elements: int, bits: int) -> Cost:
    return _cheapest_sign(bits).cost(elements)


def locate(party: Party, x: Split, width: int) -> Protocol[tuple[Bit, Bit]]:
    """([0 <= x < width], [x >= width]) of Split(p); exact. Rounds: 2; bits: `locate_cost`."""
    inside, above = yield from evaluate(party, x, window_circuit(x.bits, width))
    return inside, above


def locate_cost(elements: int, bits: int, width: int) -> Cost:
    return window_circuit(bits, width).cost(elements)
