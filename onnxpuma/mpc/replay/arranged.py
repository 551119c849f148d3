"""A round's draws from one key in one call, and its words from one peer in another.

A program's arrays are never those of another value, so words may be drawn when the round begins, and all that
one message brings may be unpacked when the first of it is read. The streams of keys and the order of messages
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.mpc.buffers import bytes_of
from onnxpuma.mpc.replay.program import Calls, Stage, Target, as_bytes
from onnxpuma.mpc.ring.words import Words

# What a rehearsal notes of single words, in the place of calls: `arranged` makes calls of them.


def draw(key: int, into: Words) -> None:
    """The next words of K_key go to this array."""


def expect(peer: int, shape: tuple[int, ...], bits: int) -> None:
    """The peer sends words in this round: the next number of `arrive`."""


def arrive(number: int, into: Words, bits: int) -> None:
    """They go to this array."""


def arranged(stage: Stage, rounds: Sequence[Calls]) -> list[Calls]:
    """The same calls for the rounds of a program and for what follows them."""
    place: dict[int, tuple[int, int]] = {}  # of a message by its number: its group, and its place there
    groups: list[list[Target | None]] = []
    found = []
    for calls in rounds:
        draws: dict[int, list[memoryview]] = {}
        awaited: dict[int, tuple[int, list[int]]] = {}  # by peer: a group, and the sizes of its buffers
        rest: Calls = []
        for call in calls:
            function, arguments = call
            if function is draw:
                key, into = arguments
                draws.setdefault(key % 3, []).append(as_bytes(into))
            elif function is expect:
                peer, shape, bits = arguments
                if peer % 3 not in awaited:
                    awaited[peer % 3] = len(groups), []
                    groups.append([])
                group, sizes = awaited[peer % 3]
                place[len(place)] = group, len(sizes)
                sizes.append(bytes_of(shape, bits))
                groups[group].append(None)
            else:
                rest.append(call)
        first: Calls = [(stage.draw_all, (key, tuple(views))) for key, views in draws.items()]
        first += [(stage.expect_all, (peer, tuple(sizes))) for peer, (_, sizes) in awaited.items()]
        found.append(first + rest)
    return _unpacked_at_once(stage, found, place, groups)


def _unpacked_at_once(
    stage: Stage,
    rounds: Sequence[Calls],
    place: dict[int, tuple[int, int]],
    groups: list[list[Target | None]],
) -> list[Calls]:
    for calls in rounds:
        for function, arguments in calls:
            if function is arrive:
                number, into, bits = arguments
                group, position = place[number]
                groups[group][position] = Target(bits, into)
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
                kept.append((stage.arrive_all, (group, tuple(groups[group]))))
        found.append(kept)
    return found
