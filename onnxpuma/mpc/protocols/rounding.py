"""floor(x), exactly: both parts are shifted down, and the carry out of what was shifted away is put back.

With A and B the two parts of x at f fraction bits, floor(x) = floor(A / 2^f) + floor(B / 2^f) + c, where c
is whether the two remainders add up to 2^f: the top bit of their sum in a ring of f + 1 bits.
"""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Split, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.compare import wide_negative, wide_negative_cost
from onnxpuma.mpc.protocols.convert import replicate_pair, replicate_pair_cost
from onnxpuma.mpc.protocols.gate import arithmetic, arithmetic_cost
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.mpc.ring.words import reduced, word_type


def floor(party: Party, x: Replicated, pivot: int) -> Protocol[Replicated]:
    """The largest whole number not above x, in words without fraction bits mod 2^64; exact on x's word.

    Condition: |x| < 2^(62 - f), f the fraction bits of x. Rounds: 5; bits: `floor_cost`.
    """
    f, seen = x.fraction, see(party, x, pivot)
    words = reduced(seen.words, 64)
    high = Split(seen.role, pivot, reduced(words >> word_type(64).type(f), 64 - f), Format(64 - f, 0))
    rest = Split(seen.role, pivot, reduced(words, f).astype(word_type(f + 1)), Format(f + 1, 0))
    whole, carry = yield from parallel([lift(party, high, 64), _carry(party, rest)])
    return whole + carry


def _carry(party: Party, rest: Split) -> Protocol[Replicated]:
    bit = yield from wide_negative(party, rest)
    carry = replicate_pair(party, (yield from arithmetic(party, bit, 64)))
    yield
    return carry


def floor_cost(elements: int, fraction: int) -> Cost:
    carry = wide_negative_cost(elements, fraction + 1) + arithmetic_cost(elements, 64)
    return lift_cost(elements, 64 - fraction, 64) | (carry + replicate_pair_cost(elements, 64))
