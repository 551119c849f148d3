"""No party learns anything: every protocol enumerated in a tiny ring.

test_masks.py probes them at full width. What the checks can find is tested in test_audit.py.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from onnxpuma.mpc.audit.enumeration import leaks, uniform
from onnxpuma.mpc.audit.views import Input, Recording, everything
from onnxpuma.mpc.forms import Replicated, Split
from onnxpuma.mpc.protocols import compare
from onnxpuma.mpc.protocols.boolean import Circuit, Table, xor
from onnxpuma.mpc.protocols.compare import is_negative, locate, wide_negative
from onnxpuma.mpc.protocols.histogram import Histogram
from onnxpuma.mpc.protocols.widen import lift_pair, widen
from onnxpuma.mpc.ring.words import reduced, signed
from tests.mpc.audit.case import Case, named
from tests.mpc.audit.programs import (
    TINY,
    best_of_group,
    bit_as_number,
    circuit,
    compared,
    counted,
    dealt,
    from_zero,
    gate_lifted,
    gated,
    grouped,
    inside_of,
    lifted,
    near_the_largest,
    noise_split,
    pair_passed,
    pair_replicated,
    pair_widened,
    pairs_and_their_sum,
    product_split,
    reached,
    replicated_resolved,
    rows,
    series_of,
    square_lowered,
    square_resolved,
    summed,
    terms_multiplied,
    window_exp,
    with_noise,
)
from tests.mpc.audit.shared_inputs import P, components, noises, pair_words, replicated, split_words, terms

SMALL_EQUAL = Circuit(
    2, tuple(Table(f"equal{d}", d, 1, lambda a, b: a == b) for d in range(2)), (xor((0, 1)),)
)


ENUMERATED = [
    Case("product to split", partial(product_split, 2), replicated(2, 2)),
    Case("product resolved", partial(square_resolved, 3, 1), replicated(3), range(-1, 1)),
    Case("product lowered", partial(square_lowered, 3, 1), replicated(3)),
    Case("replicated resolved", partial(replicated_resolved, 4), replicated(4), range(-2, 2)),
    Case("sum replicated", partial(summed, 2), [Input(2, frozenset({j, (j + 2) % 3})) for j in range(3)]),
    Case("noise, replicated", partial(with_noise, 2), replicated(2) + noises(2)),
    Case("noise, split", partial(noise_split, 2), replicated(2) + noises(2)),
    Case("pair replicated", partial(pair_replicated, 3), pair_words(3)),
    Case("pair passed on", partial(pair_passed, 3), pair_words(3)),
    Case("pairs replicated, their sum passed on", partial(pairs_and_their_sum, 1), pair_words(1, 2)),
    Case("pair widened", partial(pair_widened, 3, 5, widen), pair_words(3)),
    Case("pair lifted", partial(pair_widened, 2, 3, lift_pair), pair_words(2), range(-1, 1)),
    Case("a number from zero on", partial(from_zero, 1, 3), replicated(1), range(2)),
    Case("dealt", partial(dealt, 3), [Input(3, frozenset({P}))]),
    Case("lift of a replicated value", partial(lifted, 2, 3, True), replicated(2), range(-1, 1)),
    Case("lift by two bits", partial(lifted, 3, 5, False), split_words(3), range(-2, 2)),
    Case("lift to a smaller ring", partial(lifted, 3, 2, True), replicated(3)),
    Case("equality of two digits", partial(circuit, 2, SMALL_EQUAL), split_words(2)),
    Case("sign of one group", partial(compared, 3, is_negative), split_words(3)),
    Case("carry of two groups", partial(grouped, 3, (1, 1)), split_words(3)),
    Case("window", partial(compared, 2, partial(locate, width=1)), split_words(2)),
    Case(
        "window in one round",
        partial(compared, 3, partial(locate, width=2, way=compare.one_round(3))),
        split_words(3),
    ),
    Case("wide sign of one group", partial(compared, 2, wide_negative), split_words(2)),
    Case("gate with halves", partial(gated, 2, True), pair_words(1) + replicated(2)),
    Case("gate without halves", partial(gated, 3, False), pair_words(1) + split_words(3)),
    Case(
        "gate that lifts",
        partial(gate_lifted, 2, 3, True, False),
        pair_words(1) + replicated(2),
        range(-1, 1),
    ),
    Case("gate that lifts a split", partial(gate_lifted, 2, 3, False, False), pair_words(1) + split_words(2)),
    Case(
        "terms of the twins times a value",
        partial(terms_multiplied, 2, 3, (0, 2), (1,)),
        terms(2, 0, 2) + components(3, 1),
    ),
    Case(
        "terms of the pivot and a twin times a value",
        partial(terms_multiplied, 2, 3, (1, 2), (0,)),
        terms(2, 1, 2) + components(3, 0),
    ),
    Case("bit as number", partial(bit_as_number, 3), pair_words(1)),
    Case("row of two", partial(rows, 1, 2), split_words(1, 2)),
    Case("largest of two, a public place", partial(best_of_group, 1, 2, False), replicated(1, 2)),
    Case("largest of two, a secret place", partial(best_of_group, 1, 2, True), replicated(1, 4)),
    Case("number that reaches one", partial(reached, 2, 1, (1,), 2, False), replicated(2)),
    Case("series", partial(series_of, 3, TINY, 1, 3), split_words(3)),
    Case("zero counts", partial(counted, 2), pair_words(2)),
    Case("near the largest of two", partial(near_the_largest, 2, Histogram(2, 2, 0), 2, 2), split_words(2)),
    Case("inside", partial(inside_of, 3, 1, 2), split_words(3)),
    Case("exponential", partial(window_exp, 3, 1, 2, 2), split_words(3)),
]


@named(ENUMERATED)
def test_views_do_not_depend_on_what_a_party_does_not_hold(case: Case) -> None:
    recording = everything(case.program, case.inputs)
    assert any(recording.received(party) for party in range(3))
    assert leaks(recording, case.inputs) == []
    assert_fresh(recording, case.results)


def assert_fresh(recording: Recording, results: range | None) -> None:
    """The result's shares are uniform, given the result."""
    form = recording.results[P]
    if isinstance(form, Replicated):
        held = [r.first for r in recording.results]
    elif isinstance(form, Split):
        by_role = {r.role: r.words for r in recording.results}
        assert np.array_equal(reduced(by_role[1], form.bits), reduced(by_role[2], form.bits))
        held = [by_role[0], by_role[1]]
    else:
        return  # the twins' halves are masked when they are sent
    opened = signed(sum(held[1:], held[0]), form.bits)
    lanes = np.isin(opened, opened if results is None else list(results))
    assert lanes.any()
    assert uniform([words[lanes] for words in held[:-1]], form.bits, opened[lanes])
