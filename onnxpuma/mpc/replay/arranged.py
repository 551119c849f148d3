"""A round's draws from one key in one call, its words for a peer in another, and those from one in a third.

A program's arrays are never those of another value, so words may be drawn when the round begins, and all that
one message brings may be unpacked when the first of it is read. Words that leave are packed side by side
where the protocol sends them, and sent when the round ends. The streams of keys and the order of messages
stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from onnxpuma.mpc.buffers import bytes_of
from onnxpuma.mpc.replay.program import Calls, Stage
from onnxpuma.mpc.ring.again import again_with
from onnxpuma.mpc.ring.arrays import empty
from onnxpuma.mpc.ring.places import Places
from onnxpuma.mpc.ring.tape import packed
from onnxpuma.mpc.ring.words import Words

# What a rehearsal notes of single words, in the place of calls: `arranged` makes calls of them.


def draw(key: int, into: Words) -> None:
    """The next words of K_key go to this array."""


def read(number: int, into: Words) -> None:
    """The words of this input, which has arrived, go to this array."""


def send(peer: int, words: Words, bits: int) -> None:
    """The words of this array go to the peer: contiguous ones."""


def tell(pivot: int, words: Words, bits: int) -> None:
    """They go to both twins of the pivot."""


def expect(peer: int, shape: tuple[int, ...], bits: int) -> None:
    """The peer sends words in this round: the next number of `arrive`."""


def arrive(number: int, into: Words, bits: int) -> None:
    """They go to this array."""


def arranged(stage: Stage, rounds: Sequence[Calls]) -> list[Calls]:
    """The same calls for the rounds of a program and for what follows them."""
    place: dict[int, tuple[int, int]] = {}  # of a message by its number: its group, and its place there
    groups: list[list[tuple[Words | None, int]]] = []
    found = []
    for calls in rounds:
        draws: dict[int, list[tuple[Words, int]]] = {}
        awaited: dict[int, tuple[int, list[int]]] = {}  # by peer: a group, and the sizes of its buffers
        rest: Calls = []
        for call in calls:
            function, arguments = call
            if function is draw:
                key, into = arguments
                draws.setdefault(key % 3, []).append((into, 8 * into.itemsize))
            elif function is expect:
                peer, shape, bits = arguments
                if peer % 3 not in awaited:
                    awaited[peer % 3] = len(groups), []
                    groups.append([])
                group, sizes = awaited[peer % 3]
                place[len(place)] = group, len(sizes)
                sizes.append(bytes_of(shape, bits))
                groups[group].append((None, bits))
            else:
                rest.append(call)
        first: Calls = [(stage.draw_all, (key, Places(arrays))) for key, arrays in draws.items()]
        first += [(stage.expect_all, (peer, tuple(sizes))) for peer, (_, sizes) in awaited.items()]
        found.append(first + _packed_side_by_side(stage, _read_at_once(stage, rest)))
    return _unpacked_at_once(stage, found, place, groups)


def _read_at_once(stage: Stage, calls: Calls) -> Calls:
    """Inputs that are read one after the other in one call."""
    found: Calls = []
    for reads, some in groupby(calls, lambda call: call[0] is read):
        if not reads:
            found += some
            continue
        numbers, arrays = zip(*[arguments for _, arguments in some], strict=True)
        found.append((stage.read_all, (numbers, Places([(into, 8 * into.itemsize) for into in arrays]))))
    return found


def _packed_side_by_side(stage: Stage, calls: Calls) -> Calls:
    """Words for a peer packed into one array; in a round that also sends words of its own, each as it is."""
    if any(f is again_with and a[2] in (stage.send, stage.tell) for f, a in calls):
        now = {send: stage.send, tell: stage.tell}
        return [(now.get(function, function), arguments) for function, arguments in calls]
    sizes: dict[int, list[int]] = {}  # by peer: of its buffers
    for function, (to, *sent) in [call for call in calls if call[0] in (send, tell)]:
        for peer in _receivers(function, to):
            sizes.setdefault(peer, []).append(bytes_of(sent[0].shape, sent[1]))
    room = {peer: empty(sum(each), 8) for peer, each in sizes.items()}
    parts = {peer: _cut(room[peer], each) for peer, each in sizes.items()}
    found: Calls = []
    for function, arguments in calls:
        if function is send or function is tell:
            to, words, bits = arguments
            found += [(packed, (next(parts[peer]), words, bits)) for peer in _receivers(function, to)]
        else:
            found.append((function, arguments))
    return found + [(stage.send_all, (peer, room[peer], tuple(each))) for peer, each in sizes.items()]


def _receivers(function: Callable[..., None], to: int) -> tuple[int, ...]:
    """The peers to which `send` or `tell` sends."""
    return (to % 3,) if function is send else ((to + 1) % 3, (to + 2) % 3)


def _cut(room: Words, sizes: Sequence[int]) -> Iterator[Words]:
    """Parts of these sizes, one after the other."""
    first = 0
    for size in sizes:
        yield room[first : first + size]
        first += size


def _unpacked_at_once(
    stage: Stage,
    rounds: Sequence[Calls],
    place: dict[int, tuple[int, int]],
    groups: list[list[tuple[Words | None, int]]],
) -> list[Calls]:
    for calls in rounds:
        for function, arguments in calls:
            if function is arrive:
                number, into, bits = arguments
                group, position = place[number]
                groups[group][position] = into, bits
    done: set[int] = set()
    found = []
    for calls in rounds:
        kept: Calls = []
        for call in calls:
            if call[0] is not arrive:
                kept.append(call)
                continue
            group = place[call[1][0]][0]
            if group not in done:
                done.add(group)
                kept.append((stage.arrive_all, (group, Places(groups[group]))))
        found.append(kept)
    return found
