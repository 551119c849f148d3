"""Which constants of a model are weights (secret) and which are its architecture (public).

A constant is secret unless it is structure: it decides shapes, axes, indices or branches and nothing else; or
it is exactly a known table, mask or range of positions; or it is one round number. Training leaves none of
these, in whatever type and place it is stored. A name alone never makes a weight public; the owner's two
lists of patterns override the rules, either way.

Constants are judged as they will be shown, after those that depend on constants alone are computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.graph.finding import Finding
from onnxpuma.graph.frequencies import are_known, are_slopes
from onnxpuma.graph.index_tables import ONE_NUMBER, form_of
from onnxpuma.graph.masks import has_order, is_ordered_mask
from onnxpuma.graph.model import Graph, Initializer
from onnxpuma.graph.patterns import picked
from onnxpuma.graph.round_numbers import LARGEST_INTEGER, is_round
from onnxpuma.graph.slots import Slots
from onnxpuma.graph.waves import is_wave_table, spacing_of
from onnxpuma.standard.mask_values import MASKED

# A scale of ones that canonicalising inserted: it scales nothing, and recognising it saves the product. Ones
# that a model brings are weights like others: no decision depends on a weight's values.
ONES, THEIR_REASON = "onnxpuma.ones.", "ones"
_SCALE_SLOTS = (("LayerNormalization", 1), ("RMSNormalization", 1))
# Zeros alone are a mask only where a mask is expected.
_MASK_SLOTS = (("Attention", 3),)
# Up to this many numbers that decide indices need no known form: the first and the last row, an order of
# axes.
FEW = 16
# A table of positions or a mask is smaller than this; a larger array is not examined.
_LARGEST_READ = 1 << 24
# Forms of reals that a weight may have too, where a weight is expected.
SLOPES = "slopes of ALiBi"
_COUNTS = ("positions", "a grid of positions", "distances of positions", "distances in a window", SLOPES)
_LARGEST_WHOLE_READ = 1 << 28
_GLANCED = 64  # numbers that tell most weights from tables
_SHORT = 1 << 12  # elements of an array that is read at once
_LARGEST_LONE = 1 << 20
_NARROW_ROUND = (0, 1, 8, 128, -1, -128)

WEIGHT = Finding("secret", "weight")
# Arrays that repeat one number: zeros of which a mask is made, for example, and a bias that was never
# trained. They get the reason of the others, as everybody sees reasons.
_EVEN = Finding("secret", WEIGHT.reason)


def classify(
    graph: Graph,
    public: Sequence[str] = (),
    secret: Sequence[str] = (),
    unmatched: set[str] | None = None,
    *,
    names: Sequence[str] = (),
    coarse: bool = False,
) -> dict[str, Finding]:
    """Initializer name -> its finding, in the graph's order.

    `public` and `secret` are glob patterns on initializer names that override the rules; where both match,
    secret wins. names: further names that a pattern of `public` may match (graph/attributes.py). coarse: the
    weights are half-precision numbers, of which fewer are round (graph/grain.py). Reads no more of a weight
    than it takes to recognise it as one. Raises ConfigError for a pattern that matches nothing: misspelt, it
    would disclose what was to be kept secret. If `unmatched` is given, such patterns are added to it instead.
    """
    picks = {pattern: picked(graph.initializers, pattern) for pattern in (*public, *secret)}
    _check_patterns(picks, public, unmatched, names)
    reals = {n: i for n, i in graph.initializers.items() if i.size > 1 and i.dtype.kind not in "iubOUS"}
    tables = {name: table for name, constant in reals.items() if (table := _table(constant))}
    slots = Slots(graph, [n for n, i in reals.items() if i.size > FEW and n not in tables])
    found: dict[str, Finding] = {}
    for name, initializer in graph.initializers.items():
        by_secret = next((p for p in secret if name in picks[p]), None)
        by_public = next((p for p in public if name in picks[p]), None)
        if by_secret is not None:
            found[name] = Finding("secret", f"pattern '{by_secret}'")
        elif by_public is not None:
            found[name] = Finding("public", f"pattern '{by_public}'")
        elif not initializer.available:
            found[name] = Finding("secret", "not in this file")
        else:
            table = tables.get(name)
            counts = table is not None and table.reason in _COUNTS
            if table is not None and (
                slots.multiplies_data(name) or (counts and slots.is_trained(name, True))
            ):
                table = WEIGHT
            found[name] = table or _by_rule(initializer, slots, coarse)
            initializer.release()
    return found


def _check_patterns(
    picks: Mapping[str, Collection[str]],
    public: Sequence[str],
    unmatched: set[str] | None,
    names: Sequence[str],
) -> None:
    for pattern, found in picks.items():
        if found or (pattern in public and picked(names, pattern)):
            continue
        if unmatched is None:
            raise ConfigError(
                f"the pattern '{pattern}' matches no weight of the model",
                "onnxpuma inspect lists the names; quote the pattern in a shell",
            )
        unmatched.add(pattern)


def _by_rule(constant: Initializer, slots: Slots, coarse: bool) -> Finding:
    kind = constant.dtype.kind
    if constant.size == 0:
        return Finding("public", "empty")
    if kind in "OUS":
        return Finding("public", "text", doubtful=constant.size > 1)
    if kind == "b":
        return _of_booleans(constant, slots)
    if kind in "iu":
        return _of_whole_numbers(constant, slots)
    return _of_one_real(constant, slots, coarse) if constant.size == 1 else _of_reals(constant, slots)


def _of_booleans(constant: Initializer, slots: Slots) -> Finding:
    decides = slots.decides(constant.name)
    if constant.size == 1:
        return Finding("public", "condition" if decides else "one boolean")
    if decides == "shape" or (decides and constant.size <= FEW):
        return Finding("public", f"booleans that decide {_WHAT[decides]}")
    if constant.size <= _LARGEST_WHOLE_READ:
        values = constant.numpy()
        if has_order(values):
            return Finding("public", "mask of positions")
        if np.all(values == values.reshape(-1)[0]):
            return Finding("public", "one boolean throughout")
    if decides:
        return Finding("public", "booleans of no known form, which decide indices", doubtful=True)
    return WEIGHT


_WHAT = {"shape": "shapes", "index": "indices"}


def _of_whole_numbers(constant: Initializer, slots: Slots) -> Finding:
    if slots.is_trained(constant.name, bool(constant.shape)):
        return WEIGHT
    decides = slots.decides(constant.name)
    if decides and (constant.size <= FEW or decides == "shape"):
        doubtful = constant.size > LARGEST_INTEGER
        return Finding("public", f"integers that decide {_WHAT[decides]}", doubtful)
    if constant.size == 1:
        return _of_one_whole_number(constant, slots)
    narrow = constant.dtype.itemsize == 1
    if (decides or not narrow) and constant.size <= _LARGEST_WHOLE_READ:
        form = form_of(constant.numpy())
        if form == ONE_NUMBER and not decides:
            found = _of_one_whole_number(constant, slots)
            if found.secret or found.doubtful:
                return found
        if form is not None:
            return Finding("public", form)
    if decides:
        return Finding("public", "integers of no known form, which decide indices", doubtful=True)
    return WEIGHT


def _of_one_whole_number(constant: Initializer, slots: Slots) -> Finding:
    number = int(constant.numpy().reshape(-1)[0])
    if constant.dtype.itemsize <= 2:  # as in quantised values: a zero point
        return Finding("public", "round number") if number in _NARROW_ROUND else WEIGHT
    if abs(number) <= LARGEST_INTEGER or abs(number).bit_count() == 1 or abs(number + 1).bit_count() <= 1:
        return Finding("public", "round number")
    if slots.is_compared(constant.name):
        return Finding("public", "round number")
    if constant.dtype.itemsize == 8 and abs(number) <= _LARGEST_LONE:
        return Finding("public", "one integer, for neither a shape nor an index", doubtful=True)
    return WEIGHT


def _of_one_real(constant: Initializer, slots: Slots, coarse: bool) -> Finding:
    if slots.is_trained(constant.name, bool(constant.shape)):
        return WEIGHT
    if is_round(float(constant.numpy().reshape(())), coarse):
        return Finding("public", "round number")
    decides = slots.decides(constant.name)
    return Finding("public", f"number that decides {_WHAT[decides]}") if decides else WEIGHT


def _of_reals(constant: Initializer, slots: Slots) -> Finding:
    name = constant.name
    if constant.size > _LARGEST_READ:
        return WEIGHT
    if constant.size <= FEW and slots.decides(name) == "shape":
        return Finding("public", "numbers that decide shapes")
    if constant.dtype.kind != "f":
        return WEIGHT
    beginning = constant.beginning(_GLANCED)
    if not np.all(beginning == beginning[0]) and not slots.becomes_angle(name):  # all others are even
        return WEIGHT
    values = constant.numpy()
    if name.startswith(ONES) and slots.only_in(name, _SCALE_SLOTS) and bool(np.all(values == 1)):
        return Finding("public", THEIR_REASON)
    if not np.any(values) and slots.only_in(name, _MASK_SLOTS):
        return Finding("public", "mask of positions")
    if slots.becomes_angle(name):
        known = max(values.shape) == values.size and are_known(values.reshape(-1), spacing_of(values))
        if known:
            return Finding("public", "rotary frequencies")
        return Finding("public", "frequencies of no known series", doubtful=True)
    first = values.reshape(-1)[0]
    return _EVEN if is_round(float(first), coarse=True) and bool(np.all(values == first)) else WEIGHT


def _table(constant: Initializer) -> Finding | None:
    """The finding about an array of reals wherever it is used, if it is one of the known tables."""
    if not constant.available or constant.dtype.kind != "f" or constant.size > _LARGEST_READ:
        return None
    if not _may_be_table(constant):
        return None
    values = constant.numpy()
    why = None
    if is_ordered_mask(values):
        why = "mask of positions"
    elif _is_whole(values):
        why = form_of(values)
    elif is_wave_table(values):
        why = "sines and cosines of positions"
    elif max(values.shape) == values.size and are_slopes(values.reshape(-1), spacing_of(values)):
        why = SLOPES
    del values
    constant.release()
    return Finding("public", why) if why and why != ONE_NUMBER else None


def _may_be_table(constant: Initializer) -> bool:
    """Whether an array begins like one of these tables. Those of reals begin with zeros and ones, with other
    integers, or with the numbers that fill masks; slopes are few."""
    if constant.size <= _SHORT:
        return True
    columns = next(n for n in reversed(constant.shape) if n > 1)
    first = constant.beginning(min(_GLANCED, columns))  # of a table of sines the first row alone begins so
    return bool(np.all((first == np.rint(first)) | (first <= MASKED)))


def secrets_of(found: Mapping[str, Finding]) -> list[str]:
    """The names of the constants that make everything computed from them a weight: secret, and not by rule
    one round number throughout."""
    return [name for name, finding in found.items() if finding.secret and finding is not _EVEN]


def even_weights(graph: Graph) -> list[str]:
    """The names of the constants that are secret by rule and repeat one round number."""
    reals = {n: i for n, i in graph.initializers.items() if i.dtype.kind == "f" and i.size > 1}
    even = {n: i for n, i in reals.items() if i.available and i.size <= _LARGEST_READ and _is_even(i)}
    return [name for name, found in classify(replace(graph, initializers=even)).items() if found is _EVEN]


def _is_even(constant: Initializer) -> bool:
    first = constant.beginning(_GLANCED)
    if not np.all(first == first[0]):
        return False
    values = constant.numpy()
    even = bool(np.all(values == first[0]))
    del values
    constant.release()
    return even


def _is_whole(values: np.ndarray) -> bool:
    """Whether these reals are all integers, none so large that it is rounded."""

    def fits(part: np.ndarray) -> bool:
        wide = part.astype(np.float64)
        return bool(np.all(np.isfinite(wide) & (np.abs(wide) < 1 << 24) & (wide == np.rint(wide))))

    return fits(values.reshape(-1)[:64]) and fits(values)
