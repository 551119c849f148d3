"""Noise on a shared value that no party knows (docs/protocols.md, "Noise").

Each party adds its own noise to its own term. The sum has the noise of all three, so any two honest parties'
noise is unknown to the third, and to whoever opens the value.
"""

from __future__ import annotations

from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.ring.words import Words


def noisy(x: Replicated | Sum3, own: Words) -> Sum3:
    """x + n_0 + n_1 + n_2 mod 2^k, where `own` is this party's noise n_i, words in x's format. Exact.

    No round and no bit: P_i's term becomes x_i + n_i. As every Sum3, it is masked by a fresh zero-share
    before it leaves a party.
    """
    term = x.as_sum()
    return Sum3(term.party, term.words + own, term.format)
