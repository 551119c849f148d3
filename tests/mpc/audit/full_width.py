"""The cases that are probed at full width."""

from __future__ import annotations

from functools import partial

from onnxpuma.mpc.audit.views import Input
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols import clamp, compare, exp_softmax, maximum, reciprocal, square_root
from onnxpuma.mpc.protocols.compare import is_negative, locate, wide_negative
from onnxpuma.mpc.protocols.exponential import exponential
from onnxpuma.mpc.protocols.histogram import Histogram
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.wide import wide_zero
from onnxpuma.mpc.protocols.widen import lift_pair, widen
from tests.mpc.audit.case import Case
from tests.mpc.audit.long_programs import (
    activated,
    best_of,
    drawn_from,
    fine_series,
    length_of_two,
    long_passed,
    mixed,
    of_one,
    root_of_two,
    row_times,
    scaled,
    scaled_side_by_side,
    series_and,
    series_by,
    with_hidden_keys,
)
from tests.mpc.audit.programs import (
    best_of_group,
    compared,
    counted,
    dealt,
    from_zero,
    gate_lifted,
    gated,
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
    square_lowered,
    square_resolved,
    summed,
    terms_multiplied,
    wide_powers,
    window_exp,
    with_noise,
)
from tests.mpc.audit.shared_inputs import P, components, noises, pair_words, replicated, split_words, terms

FULL_WIDTH = [
    Case("product to split", partial(product_split, 64), replicated(64, 2)),
    Case("product resolved", partial(square_resolved, 64, 18), replicated(64)),
    Case("product lowered", partial(square_lowered, 64, 18), replicated(64)),
    Case("replicated resolved", partial(replicated_resolved, 64), replicated(64)),
    Case("sum replicated", partial(summed, 64), replicated(64)),
    Case("noise, replicated", partial(with_noise, 64), replicated(64) + noises(64)),
    Case("noise, split", partial(noise_split, 64), replicated(64) + noises(64)),
    Case("pair replicated", partial(pair_replicated, 64), pair_words(64)),
    Case("pair passed on", partial(pair_passed, 44), pair_words(44)),
    Case("pairs replicated, their sum passed on", partial(pairs_and_their_sum, 46), pair_words(46, 2)),
    Case("pair widened", partial(pair_widened, 26, 60, widen), pair_words(26)),
    Case("row times a factor", partial(row_times, 64, 90, 62), replicated(64) + pair_words(64)),
    Case("pair lifted", partial(pair_widened, 20, 64, lift_pair), pair_words(20)),
    Case("dealt", partial(dealt, 64), [Input(64, frozenset({P}))]),
    Case("lift", partial(lifted, 46, 64, False), split_words(46)),
    Case("window", partial(compared, 12, partial(locate, width=16)), split_words(12)),
    Case(
        "window in one round",
        partial(compared, 8, partial(locate, width=16, way=compare.one_round(8))),
        split_words(8),
    ),
    Case("deep window", partial(compared, 12, partial(locate, width=16, deep=True)), split_words(12)),
    Case("sign", partial(compared, 16, is_negative), split_words(16)),
    Case(
        "terms times a value",
        partial(terms_multiplied, 21, 40, range(3), range(3)),
        terms(21, *range(3)) + components(40, *range(3)),
    ),
    Case("gate with halves", partial(gated, 28, True), pair_words(1) + replicated(28)),
    Case("gate without halves", partial(gated, 28, False), pair_words(1) + split_words(28)),
    Case("gate that lifts", partial(gate_lifted, 17, 25, True, False), pair_words(1) + replicated(17)),
    Case(
        "gate that lifts a split", partial(gate_lifted, 17, 25, False, False), pair_words(1) + split_words(17)
    ),
    Case(
        "gate that lifts, and a value beside it",
        partial(gate_lifted, 17, 25, True, True),
        pair_words(1) + replicated(17) + replicated(25),
    ),
    Case("wide sign of three blocks", partial(compared, 12, wide_negative), split_words(12)),
    Case("rows of three", partial(rows, 8, 3), split_words(8, 3)),
    Case("largest of three, a public place", partial(best_of_group, 8, 3, False), replicated(8, 3)),
    Case("numbers that reach three", partial(reached, 8, 2, (16, 32, 48), 9, False), replicated(8, 2)),
    Case("zero counts", partial(counted, 5), pair_words(5)),
    Case(
        "near the largest of three",
        partial(near_the_largest, 9, Histogram(9, 3, 1), 3, 12),
        split_words(9, 2),
    ),
    Case("inside, by one digit", partial(inside_of, 8, 4, 4), split_words(8)),
    Case("inside, by three digits", partial(inside_of, 14, 4, 4), split_words(14)),
    Case("exponential", partial(window_exp, 6, 3, 2, 61), split_words(6)),
    Case("exponential of four cases", partial(window_exp, 5, 2, 4, 61), split_words(5)),
    Case(
        "exponential in a wide ring",
        partial(wide_powers, 6, exp_softmax.Window(3, 2, 10), 90),
        split_words(6),
    ),
    Case("fine series", fine_series, split_words(26)),
    Case("long words passed on", partial(long_passed, 90), pair_words(64)),
    Case("series times a long word", partial(series_by, 1, 90), split_words(26) + split_words(64)),
    Case("series times two long words", partial(series_by, 2, 90), split_words(26) + split_words(64, 2)),
    Case("series plus a long word", partial(series_and, 90), split_words(26) + split_words(64)),
    Case("normalisation", partial(scaled, Thresholds(28, 30, 62, Power.INVERSE_ROOT, 90)), split_words(62)),
    Case(
        "normalisation by keys",
        with_hidden_keys(partial(scaled, Thresholds(1, 2, 6, Power.INVERSE, 10), keyed=True)),
        split_words(6),
    ),
    Case("small normalisation", partial(scaled, Thresholds(1, 3, 8, Power.ROOT, 12)), split_words(8)),
]


TWO_SCALED = Case(
    "two normalisations",
    partial(
        scaled_side_by_side,
        Thresholds(1, 2, 6, Power.INVERSE, 10),
        Thresholds(1, 2, 6, Power.INVERSE, 10, 10),
    ),
    split_words(6, 2),
)


COMPOSED = [
    Case("a number from zero on", partial(from_zero, 24, 40), replicated(24)),
    Case("wide sign", partial(compared, 64, wide_negative), split_words(64)),
    Case("wide equality", partial(compared, 64, wide_zero), split_words(64)),
    Case("row of four by fours", partial(rows, 8, 4, by=maximum.row_maximum_by_fours), split_words(8, 4)),
    Case("place of the largest of five", partial(best_of, 12, 5), replicated(12, 5)),
    Case("place of the largest of five, by twos and by fours", partial(mixed, 12, 5), replicated(12, 5)),
    Case(
        "weights of what reaches three",
        partial(reached, 8, 2, (16, 32, 48), 20, True),
        replicated(8, 2) + replicated(20, 2),
    ),
    Case("a draw from five", partial(drawn_from, 20, 5), replicated(20, 5)),
    Case("largest of four, and its place", partial(best_of_group, 12, 4, True), replicated(12, 8)),
    Case("wide exponential", of_one(exponential), replicated(64)),
    Case("activation", partial(activated, "gelu", False), replicated(64)),
    Case("activation of a product", partial(activated, "gelu", True), replicated(64)),
    Case("activation of a narrow range", partial(activated, "gelu", False, argument=8.0), replicated(64)),
    Case(
        "activation in three rounds",
        partial(activated, "gelu", True, argument=8.0, fast=True),
        replicated(64),
    ),
    Case(
        "activation with two constants in three rounds",
        partial(activated, "tanh", False, argument=8.0, fast=True),
        replicated(64),
    ),
    Case("activation with two constants", partial(activated, "tanh", False), replicated(64)),
    Case("held between two ends", of_one(clamp.between, -5 << 18, 3 << 18, 64), replicated(64)),
    Case("held, and what is above", of_one(clamp.between_and_above, -5 << 18, 3 << 18, 64), replicated(64)),
    TWO_SCALED,
    Case("reciprocal", of_one(reciprocal.reciprocal, RESTING.at(24), (8, 10)), replicated(64)),
    Case("reciprocal root", of_one(reciprocal.rsqrt, RESTING.at(24), (8, 10)), replicated(64)),
    Case("reciprocal root of two readings", root_of_two, replicated(64)),
    Case("reciprocal root of two readings, narrow", partial(root_of_two, way=Way.NARROW), replicated(64)),
    Case(
        "reciprocal root by keys",
        with_hidden_keys(of_one(reciprocal.rsqrt, RESTING.at(24), (8, 10), 1.0, Way.KEYED)),
        replicated(64),
    ),
    Case(
        "reciprocal root of two readings by keys",
        with_hidden_keys(partial(root_of_two, way=Way.KEYED)),
        replicated(64),
    ),
    Case(
        "reciprocal root in a narrow ring",
        of_one(reciprocal.rsqrt, RESTING.at(24), (8, 10), 1.0, Way.NARROW),
        replicated(64),
    ),
    Case("square root", of_one(square_root.square_root, RESTING.at(24), (8, 10)), replicated(64)),
    Case("square root of two readings", length_of_two, replicated(64)),
]
