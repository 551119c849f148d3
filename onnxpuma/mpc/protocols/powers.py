"""Powers of e in exact integers, the same on every machine (docs/protocols.md, "exp").

Both twins multiply by such a power, and their factors must agree in the last bit. The pivot takes its own
from the same tables, so a run can be repeated bit for bit from its keys.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext
from functools import lru_cache

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.arrays import constants
from onnxpuma.mpc.ring.words import WIDEST, Words, word

_LOW_BITS = 10  # of an argument that the fine table covers
_LOW_FRACTION = 20
_DIGITS = 40  # decimals


@lru_cache(maxsize=32)
def tables(bits: int, point: int, start: int = 0) -> tuple[Words, Words, int]:
    """(high, low, f) with e^(w 2^-point + start) = high[w >> low bits] low[w mod 2^(low bits)] 2^-f, for w
    mod 2^bits. The product fits a word; each factor has a relative error of 2^-21 at most."""
    low_bits = min(_LOW_BITS, bits)
    with localcontext() as context:
        context.prec = _DIGITS
        unit = Decimal(2) ** -point
        most = unit * (1 << bits) + start  # the exponent at the end of the range
        above = int((most / Decimal(2).ln()).to_integral_value(ROUND_CEILING))
        kept = WIDEST - _LOW_FRACTION - max(above, 0)
        high = [(unit * (i << low_bits) + start).exp() for i in range(1 << (bits - low_bits))]
        low = [(unit * i).exp() for i in range(1 << low_bits)]
        parts = ((high, kept), (low, _LOW_FRACTION))
        words = [[int((x * (1 << f)).to_integral_value()) for x in values] for values, f in parts]
    return constants(words[0], WIDEST), constants(words[1], WIDEST), kept + _LOW_FRACTION


def power(words: Words, bits: int, point: int, start: int, fraction: int) -> Words:
    """e^(w 2^-point + start) with `fraction` fraction bits for w in [0, 2^bits), rounded.

    Relative error 2^-20, and half a unit. Condition: the power with its fraction has at most 62 bits.
    """
    high, low, held = tables(bits, point, start)
    low_bits, shift = min(_LOW_BITS, bits), held - fraction
    if shift < 1:
        raise ProtocolError(f"powers of e with {fraction} fraction bits", f"at most {held - 1}")
    whole = ring.gather_table(low, words, 1, 0, low_bits)
    whole *= ring.gather_table(high, words, 1, low_bits, bits - low_bits) if bits > low_bits else high[0]
    whole += word(1 << (shift - 1), WIDEST)
    whole >>= word(shift, WIDEST)
    return whole
