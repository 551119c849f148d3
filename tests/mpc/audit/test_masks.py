"""Every word that a party receives at full width is hidden by a fresh one, and every mask is needed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from onnxpuma.mpc.audit.enumeration import unmasked
from onnxpuma.mpc.audit.views import Source, random_inputs, random_source, record
from tests.mpc.audit.case import Case, named
from tests.mpc.audit.full_width import COMPOSED, FULL_WIDTH, TWO_SCALED


@named(FULL_WIDTH + COMPOSED)
def test_every_word_received_is_hidden_by_a_fresh_one(case: Case) -> None:
    assert unmasked(case.program, case.inputs) == []


@named(FULL_WIDTH)
def test_every_mask_is_needed_and_needed_fresh(case: Case) -> None:
    """Without any one of its PRF words, or with one used twice, the protocol is caught."""
    trial = record(case.program, random_inputs(case.inputs, 1024, 0), 1024, random_source(1024, 0))
    for key, draws in trial.tape.draws.items():
        for draw in draws:
            found = unmasked(case.program, case.inputs, broken=without(key, draw.place))
            assert found, f"without F_{key}[{draw.place}]"
        for first, second in combinations(draws, 2):
            if (first.bits, first.words.shape) == (second.bits, second.words.shape):
                found = unmasked(case.program, case.inputs, broken=repeated(key, first.place, second.place))
                assert found, f"F_{key}[{first.place}] again as F_{key}[{second.place}]"


def test_every_mask_of_two_normalisations_is_needed() -> None:
    case = TWO_SCALED
    trial = record(case.program, random_inputs(case.inputs, 1024, 0), 1024, random_source(1024, 0))
    for key, draws in trial.tape.draws.items():
        for draw in draws:
            found = unmasked(case.program, case.inputs, broken=without(key, draw.place))
            assert found, f"without F_{key}[{draw.place}]"


def without(key: int, place: int) -> Callable[[Source], Source]:
    def broken(source: Source) -> Source:
        return lambda k, p, count, bits: source(k, p, count, bits) * np.uint64((k, p) != (key, place))

    return broken


def repeated(key: int, first: int, second: int) -> Callable[[Source], Source]:
    def broken(source: Source) -> Source:
        return lambda k, p, count, bits: source(k, first if (k, p) == (key, second) else p, count, bits)

    return broken
