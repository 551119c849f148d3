"""Two checks that a protocol keeps secrets, for tests. The caller says which party knows which input.

`leaks` enumerates: a ring of a few bits has a lane for every combination of inputs and PRF words, and the
views are compared exactly. `unmasked` probes at full width: it changes one PRF word in each lane, observes
which messages change, and reports those that no fresh word hides. Neither relies on a protocol's own account
of its masks (docs/protocols.md, "How privacy is tested").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.audit.views import (
    Columns,
    Draw,
    Input,
    Message,
    Program,
    Recording,
    Source,
    random_inputs,
    random_source,
    record,
    unbroken,
)
from onnxpuma.mpc.ring.arrays import indices, zeros
from onnxpuma.mpc.ring.words import WIDEST, Words


def leaks(recording: Recording, inputs: Sequence[Input]) -> list[int]:
    """The parties whose view depends on words that they do not hold. A protocol that keeps secrets yields [].

    For each value of a party's own words, its view (the PRF words it derives, the words it receives) must
    have the same distribution whatever the other words are. Exact: `recording` comes from `views.everything`.
    """
    sizes = [1 << i.bits for i in inputs]
    found = []
    for party in range(3):
        own = [n for n, i in enumerate(inputs) if party in i.known]
        others = [n for n, i in enumerate(inputs) if party not in i.known]
        view = _packed_view(recording, party).reshape(*sizes, -1).transpose(*own, *others, len(inputs))
        rows = int(np.prod([sizes[n] for n in own], dtype=np.int64))
        table = np.sort(view.reshape(rows, -1, view.shape[-1]), axis=-1)
        if (table != table[:, :1]).any():
            found.append(party)
    return found


def _packed_view(recording: Recording, party: int) -> np.ndarray:
    """(lanes,): a party's PRF words and received words, packed into one number."""
    view, width = zeros(recording.tape.lanes, WIDEST), 0
    parts: list[Draw | Message] = [*recording.derived(party), *recording.received(party)]
    for part in parts:
        for column in part.words.T:
            width += part.bits
            view = (view << np.uint64(part.bits)) | column
    if width > WIDEST:
        raise ProtocolError(f"a view of {width} bits", "use fewer bits")
    return view


def uniform(words: Sequence[Words], bits: int, given: Words) -> bool:
    """Whether, at each value of `given`, all combinations of the words (lanes,) are equally frequent."""
    code = zeros(len(given), WIDEST)
    for column in words:
        code = (code << np.uint64(bits)) | (column.astype(np.uint64) & np.uint64((1 << bits) - 1))
    for value in np.unique(given):
        counts = np.bincount(code[given == value].view(np.int64), minlength=1 << bits * len(words))
        if counts.min() != counts.max():
            return False
    return True


Place: TypeAlias = tuple[int, int]  # of a word in a key's stream: (draw, word of the draw)


@dataclass(frozen=True)
class Word:
    """One word of a message, as the receiver finds it."""

    sender: int
    receiver: int
    message: int  # by number, among those that the receiver gets
    column: int


def unmasked(
    program: Program,
    inputs: Sequence[Input],
    repeats: int = 16,
    seed: int = 0,
    broken: Callable[[Source], Source] = unbroken,
    parties: Sequence[int] = range(3),
) -> list[Word]:
    """The words received by `parties` that are not proven uniform and independent of all others. A private
    protocol yields [].

    For each party, a second run changes the PRF words of the key that this party lacks, one in each lane, by
    a random amount. If a word shifts a message by exactly that amount, in all `repeats` lanes, and changes no
    other remaining message, then the message is uniform given all the others, and is struck out. The messages
    that remain in the end are reported. The probe may miss a dependence that shows in one lane of hundreds.
    `broken` replaces PRF words.
    """
    found = []
    trial = record(program, random_inputs(inputs, 1 << 10, seed), 1 << 10, random_source(1 << 10, seed))
    for party in parties:
        draws = trial.tape.draws[(party + 2) % 3]
        lacking = [(draw.place, column) for draw in draws for column in range(draw.words.shape[1])]
        lanes = max(1 << 10, -(-len(lacking) * repeats // 8) * 8)
        words, source = random_inputs(inputs, lanes, seed), random_source(lanes, seed)
        other = _changed(source, (party + 2) % 3, lacking, lanes, seed)
        before, after = (record(program, words, lanes, broken(s)) for s in (source, other))
        found += _not_struck(before, after, party, lacking)
    return found


def _changed(source: Source, key: int, lacking: Sequence[Place], lanes: int, seed: int) -> Source:
    """The source with one word of `key` changed in each lane, one word after the other."""
    changes = np.random.default_rng([seed, 4]).integers(1, 1 << 64, lanes, np.uint64) | np.uint64(1)
    which = indices(lanes) % max(1, len(lacking))
    number = {word: n for n, word in enumerate(lacking)}

    def draw(drawn_key: int, place: int, count: int, bits: int) -> Columns:
        words = source(drawn_key, place, count, bits)
        if drawn_key == key:
            words = words.copy()
            for column in range(count):
                here = which == number[place, column]
                words[here, column] += changes[here]
        return words

    return draw


def _not_struck(before: Recording, after: Recording, party: int, lacking: Sequence[Place]) -> list[Word]:
    drawn = {d.place: (d, after.tape.draws[d.key][d.place]) for d in before.tape.draws[(party + 2) % 3]}
    words: list[Word] = []
    hides: list[set[int]] = []  # for each received word, the lacking words that shift it by their own change
    # for each lacking word, the received words that it changes
    touches: dict[int, set[int]] = {n: set() for n in range(len(lacking))}
    for number, (old, new) in enumerate(zip(before.received(party), after.received(party), strict=True)):
        for column in range(old.words.shape[1]):
            message = _Change.of(old, new, column)
            hides.append(set())
            for n in np.unique(np.flatnonzero(message.flip) % max(1, len(lacking))).tolist():
                place, which = lacking[n]
                mask = _Change.of(*drawn[place], which)
                lanes = slice(n, None, len(lacking))
                if message.follows(mask, lanes):
                    hides[-1].add(n)
                touches[n].add(len(words))
            words.append(Word(old.sender, party, number, column))
    left = set(range(len(words)))
    while struck := {index for index in left if any(touches[n] == {index} for n in hides[index])}:
        left -= struck
        for changed in touches.values():
            changed -= struck
    return [words[index] for index in sorted(left)]


@dataclass(frozen=True)
class _Change:
    """The change of one word of a draw or a message, in all lanes."""

    sum: Words
    flip: Words
    bits: int

    @classmethod
    def of(cls, old: Draw | Message, new: Draw | Message, column: int) -> _Change:
        a, b = old.words[:, column], new.words[:, column]
        return cls(b - a, b ^ a, old.bits)

    def follows(self, mask: _Change, lanes: slice) -> bool:
        """Whether the message changed as its mask did in these lanes: by sum, xor, or high bits of it."""
        if self.bits > mask.bits:
            return False
        keep, moved = np.uint64((1 << self.bits) - 1), self.sum[lanes]
        if not ((self.flip[lanes] ^ mask.flip[lanes]) & keep).any():
            return True
        for by in (mask.sum[lanes], np.uint64(0) - mask.sum[lanes]):
            if not ((moved - by) & keep).any():
                return True
            if self.bits < 8:
                continue  # too few bits to rule out chance
            by = by & np.uint64((1 << mask.bits) - 1)
            for shift in range(1, mask.bits - self.bits + 1):  # floor((t + mask) / 2^shift) mod 2^bits
                if (((moved - (by >> np.uint64(shift))) & keep) <= 1).all():
                    return True
        return False
