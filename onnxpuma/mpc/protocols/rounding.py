"""floor(x), exactly: shift both parts down, and add the carry out of the bits that were shifted away.

Let A and B be the two parts of x at f fraction bits. Then floor(x) = floor(A / 2^f) + floor(B / 2^f) + c,
where c says whether the two remainders add up to 2^f: it is the top bit of their sum in a ring of f + 1 bits.
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
from onnxpuma.mpc.ring.words import reduced


def floor(party: Party, x: Replicated, pivot: int) -> Protocol[Replicated]:
    """The largest whole number not above x, in words of x's ring without fraction bits; exact on x's word.

    Condition: |x| < `format.largest` of x. Rounds: 5; bits: `floor_cost`.
    """
    (k, f), seen = x.format, see(party, x, pivot)
    words = reduced(seen.words, k)
    above, below = Format(k - f, 0), Format(f + 1, 0)
    high = Split(seen.role, pivot, reduced(words >> words.dtype.type(f), above.bits), above)
    rest = Split(seen.role, pivot, reduced(words, f).astype(below.word), below)
    whole, carry = yield from parallel([lift(party, high, k), _carry(party, rest, k)])
    return whole + carry


def _carry(party: Party, rest: Split, bits: int) -> Protocol[Replicated]:
    bit = yield from wide_negative(party, rest)
    carry = replicate_pair(party, (yield from arithmetic(party, bit, bits)))
    yield
    return carry


def floor_cost(elements: int, source: Format) -> Cost:
    k, f = source
    carry = wide_negative_cost(elements, f + 1) + arithmetic_cost(elements, k)
    return lift_cost(elements, k - f, k) | (carry + replicate_pair_cost(elements, k))
