"""Two checks that a protocol keeps secrets, for tests; both have to be told which party knows which input.

`leaks` enumerates: in a ring of a few bits, a lane for every combination of inputs and PRF words, and the
views compared exactly. `unmasked` probes at full width: it changes one PRF word in each lane, looks which
messages change, and reports those that no fresh word hides. Neither trusts a protocol's own account of its
masks (docs/protocols.md, "How privacy is tested").
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
from onnxpuma.mpc.ring.words import Words


def leaks(recording: Recording, inputs: Sequence[Input]) -> list[int]:
    """The parties whose view tells something about words they do not hold; [] is what a protocol must give.

    For each value of a party's own words, its view (PRF words it derives, words it receives) must have the
    same distribution whatever the other words are. Exact: `recording` is of `views.everything`.
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
    """(lanes,): a party's PRF words and received words, side by side in one number."""
    view, width = zeros(recording.tape.lanes, 64), 0
    parts: list[Draw | Message] = [*recording.derived(party), *recording.received(party)]
    for part in parts:
        for column in part.words.T:
            width += part.bits
            view = (view << np.uint64(part.bits)) | column
    if width > 64:
        raise ProtocolError(f"a view of {width} bits", "use fewer bits")
    return view


def uniform(words: Sequence[Words], bits: int, given: Words) -> bool:
    """For each value of `given`, all combinations of the words (lanes,) mod 2^bits are equally frequent."""
    code = zeros(len(given), 64)
    for column in words:
        code = (code << np.uint64(bits)) | (column.astype(np.uint64) & np.uint64((1 << bits) - 1))
    for value in np.unique(given):
        counts = np.bincount(code[given == value].view(np.int64), minlength=1 << bits * len(words))
        if counts.min() != counts.max():
            return False
    return True


Place: TypeAlias = tuple[int, int]  # of a key's stream: which draw, which of its words


@dataclass(frozen=True)
class Word:
    """One word of a message, as the receiver finds it."""

    sender: int
    receiver: int
    message: int  # which of those that the receiver gets
    column: int


def unmasked(
    program: Program,
    inputs: Sequence[Input],
    repeats: int = 16,
    seed: int = 0,
    broken: Callable[[Source], Source] = unbroken,
) -> list[Word]:
    """The words received that are not proven uniform and independent of all else; [] is what must come out.

    For each party: the PRF words of the one key that it lacks are changed, one in each lane, by a random
    amount, and the run is compared with the unchanged one. A message that some word shifts by just that
    amount, in all `repeats` lanes, while this word changes no other message that is left, is uniform given
    all the others: it is struck out. What remains when nothing can be struck out is reported.
    A message that depends on a word in one lane of hundreds may be missed. `broken` replaces PRF words.
    """
    found = []
    trial = record(program, random_inputs(inputs, 1 << 10, seed), 1 << 10, random_source(1 << 10, seed))
    for party in range(3):
        draws = trial.tape.draws[(party + 2) % 3]
        lacking = [(draw.place, column) for draw in draws for column in range(draw.words.shape[1])]
        lanes = max(1 << 10, -(-len(lacking) * repeats // 8) * 8)
        words, source = random_inputs(inputs, lanes, seed), random_source(lanes, seed)
        other = _changed(source, (party + 2) % 3, lacking, lanes, seed)
        before, after = (record(program, words, lanes, broken(s)) for s in (source, other))
        found += _not_struck(before, after, party, lacking)
    return found


def _changed(source: Source, key: int, lacking: Sequence[Place], lanes: int, seed: int) -> Source:
    """The source with one word of `key` changed in each lane, in turn."""
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
    hides: list[set[int]] = []  # for each received word, the lacking words that shift it by what they changed
    touches: dict[int, set[int]] = {
        n: set() for n in range(len(lacking))
    }  # the received words each one changes
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
    """What became of one word of a draw or a message, in all lanes."""

    sum: Words
    flip: Words
    bits: int

    @classmethod
    def of(cls, old: Draw | Message, new: Draw | Message, column: int) -> _Change:
        a, b = old.words[:, column], new.words[:, column]
        return cls(b - a, b ^ a, old.bits)

    def follows(self, mask: _Change, lanes: slice) -> bool:
        """In these lanes the message moved as its mask did: by the same sum, xor, or high bits of the sum."""
        if self.bits > mask.bits:
            return False
        keep, moved = np.uint64((1 << self.bits) - 1), self.sum[lanes]
        if not ((self.flip[lanes] ^ mask.flip[lanes]) & keep).any():
            return True
        for by in (mask.sum[lanes], np.uint64(0) - mask.sum[lanes]):
            if not ((moved - by) & keep).any():
                return True
            if self.bits < 8:
                continue  # too short to be told from chance
            by = by & np.uint64((1 << mask.bits) - 1)
            for shift in range(1, mask.bits - self.bits + 1):  # floor((t + mask) / 2^shift) mod 2^bits
                if (((moved - (by >> np.uint64(shift))) & keep) <= 1).all():
                    return True
        return False
