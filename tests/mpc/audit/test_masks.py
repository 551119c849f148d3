"""Every word that a party receives at full width is hidden by a fresh one, and every mask is needed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from onnxpuma.mpc.audit.enumeration import Word, unmasked
from onnxpuma.mpc.audit.views import Source, random_inputs, random_source, record
from tests.mpc.audit.case import Case, named
from tests.mpc.audit.full_width import COMPOSED, FULL_WIDTH, TWO_SCALED


@named(FULL_WIDTH + COMPOSED)
def test_every_word_received_is_hidden_by_a_fresh_one(case: Case) -> None:
    assert unmasked(case.program, case.inputs) == []


@named([*FULL_WIDTH, TWO_SCALED])
def test_every_mask_is_needed_and_needed_fresh(case: Case) -> None:
    """Without any one of its PRF words, or with one used twice, the party that lacks the key sees through."""
    trial = record(case.program, random_inputs(case.inputs, 1024, 0), 1024, random_source(1024, 0))
    for key, draws in trial.tape.draws.items():
        for draw in draws:
            found = seen_through(case, key, without(key, draw.place))
            assert found, f"without F_{key}[{draw.place}]"
        for first, second in combinations(draws, 2) if case is not TWO_SCALED else ():
            if (first.bits, first.words.shape) == (second.bits, second.words.shape):
                found = seen_through(case, key, repeated(key, first.place, second.place))
                assert found, f"F_{key}[{first.place}] again as F_{key}[{second.place}]"


def seen_through(case: Case, key: int, broken: Callable[[Source], Source]) -> list[Word]:
    """What the words of `key`, so broken, no longer hide."""
    return unmasked(case.program, case.inputs, broken=broken, parties=[(key + 1) % 3])


def without(key: int, place: int) -> Callable[[Source], Source]:
    def broken(source: Source) -> Source:
        return lambda k, p, count, bits: source(k, p, count, bits) * np.uint64((k, p) != (key, place))

    return broken


def repeated(key: int, first: int, second: int) -> Callable[[Source], Source]:
    def broken(source: Source) -> Source:
        return lambda k, p, count, bits: source(k, first if (k, p) == (key, second) else p, count, bits)

    return broken
