"""Damaged messages for tests: valid ones with bytes and frames changed, lost, doubled and inserted."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FEW, MANY = 150, 10_000
CHANGES = ("bit", "byte", "cut", "lost", "put in", "doubled", "frame lost", "frame put in", "swap")


def thorough(examples: int) -> settings:
    """This many examples, with no time limit for each: the machine may be busy."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=examples == FEW,
    )


@st.composite
def damaged(draw: st.DrawFn, messages: Sequence[Sequence[bytes]]) -> list[bytes]:
    """One of `messages`, each a list of frames, after one to four changes; or random frames."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(st.binary(max_size=64), min_size=1, max_size=6))
    frames = [bytes(frame) for frame in draw(st.sampled_from(messages))]
    for _ in range(draw(st.integers(1, 4))):
        frames = _changed(draw, frames)
    return frames


def _changed(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    place = draw(st.integers(0, len(frames) - 1))
    frame = frames[place]
    spot = draw(st.integers(0, max(0, len(frame) - 1)))
    how = draw(
        st.sampled_from(
            ("bit", "byte", "cut", "lost", "put in", "doubled", "frame lost", "frame put in", "swap")
        )
    )
    if how == "bit" and frame:
        frame = frame[:spot] + bytes([frame[spot] ^ (1 << draw(st.integers(0, 7)))]) + frame[spot + 1 :]
    elif how == "byte" and frame:
        frame = frame[:spot] + bytes([draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))]) + frame[spot + 1 :]
    elif how == "cut":
        frame = frame[:spot]
    elif how == "lost":
        frame = frame[:spot] + frame[spot + draw(st.integers(1, 16)) :]
    elif how == "put in":
        frame = frame[:spot] + draw(st.binary(min_size=1, max_size=12)) + frame[spot:]
    elif how == "doubled":
        frame = frame[:spot] + frame[spot : spot + draw(st.integers(1, 64))] * 2 + frame[spot:]
    elif how == "frame lost" and len(frames) > 1:
        return frames[:place] + frames[place + 1 :]
    elif how == "frame put in":
        return [*frames[:place], draw(st.binary(max_size=40)), *frames[place:]]
    elif how == "swap":
        other = draw(st.integers(0, len(frames) - 1))
        frames = list(frames)
        frames[place], frames[other] = frames[other], frames[place]
        return frames
    return [*frames[:place], frame, *frames[place + 1 :]]
