"""Input words of an audited protocol, who knows each of them, and the forms that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.mpc.audit.views import Input
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.words import Words

P = 1  # the pivot of every case


def replicated(bits: int, count: int = 1) -> list[Input]:
    return components(bits, *range(3)) * count


def split_words(bits: int, count: int = 1) -> list[Input]:
    return [Input(bits, frozenset({P})), Input(bits, frozenset({(P + 1) % 3, (P + 2) % 3}))] * count


def terms(bits: int, *parties: int) -> list[Input]:
    """A word of each of these parties, which no other knows."""
    return [Input(bits, frozenset({j})) for j in parties]


def components(bits: int, *places: int) -> list[Input]:
    """These components of a Replicated value."""
    return [Input(bits, frozenset({j, (j + 2) % 3})) for j in places]


def noises(bits: int) -> list[Input]:
    return terms(bits, *range(3))


def pair_words(bits: int, count: int = 1) -> list[Input]:
    return [Input(bits, frozenset({(P + 1) % 3})), Input(bits, frozenset({(P + 2) % 3}))] * count


def as_replicated(party: Party, words: Sequence[Words], bits: int, fraction: int = 0) -> Replicated:
    return Replicated(party.index, words[party.index], words[(party.index + 1) % 3], Format(bits, fraction))


def as_split(party: Party, words: Sequence[Words], bits: int) -> Split:
    role = party.role(P)
    return Split(role, P, words[0] if role == PIVOT else words[1], Format(bits, 0))


def as_pair(party: Party, words: Sequence[Words], bits: int) -> Pair:
    role = party.role(P)
    return Pair(role, P, nothing(words[0].shape, bits) if role == PIVOT else words[role - 1], Format(bits, 0))


def as_bit(party: Party, words: Sequence[Words]) -> Bit:
    role, n = party.role(P), len(words[0])
    plane = np.packbits(words[max(role, 1) - 1] & np.uint8(1), bitorder="little")
    return Bit(role, P, nothing(plane.shape, 8) if role == PIVOT else plane, (n,))


def done(x: Any) -> Protocol[Any]:
    """Whatever is still on its way arrives."""
    yield
    return x
