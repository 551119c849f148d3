"""Replays of runs of several requests, and of requests that continue from what an earlier run kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from onnxpuma.errors import InputError, PlanError
from onnxpuma.mpc import ring
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import Selection
from onnxpuma.roles.audit.replay import Asking, Recorded, Replayed, replay
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.view import View
from tests.ops.test_noise import feed, scores_of, wish
from tests.roles.audit.case import asking_of, opened_by, recorded_of
from tests.roles.test_kept import NO_PAST, WIDTH, cached_model, rows


@pytest.fixture(scope="module")
def cached() -> MemoryModel:
    return MemoryModel(cached_model())


@pytest.fixture
def numpy_kernel() -> Iterator[None]:
    level = ring.native_level()
    ring.set_native_level("numpy")
    yield
    ring.set_native_level(level)


def clear(x: np.ndarray) -> np.ndarray:
    """The outputs y of rows x with no past."""
    session = onnxruntime.InferenceSession(cached_model().SerializeToString())
    return np.asarray(session.run(["y"], {"x": x, "past": NO_PAST})[0])


def asking(model: MemoryModel, feed: dict[str, Any], selection: Selection, **more: Any) -> Asking:
    shapes = {name: value.shape for name, value in feed.items()}
    plan = compile_plan(model.blueprint, shapes, {}, selection)
    return asking_of(model, feed, selection, plan=plan, **more)


def same(one: Replayed, other: Replayed) -> None:
    assert one.first_difference(other) is None
    assert other.first_difference(one) is None
    assert all(one.chain(*way) == other.chain(*way) for way in one.passed)


@pytest.fixture(scope="module")
def joint(cached: MemoryModel) -> Recorded:
    """Two prompts of different lengths in one run."""
    askings = [
        asking(cached, {"x": rows(length, seed), "past": NO_PAST}, Selection(("y",)))
        for length, seed in ((3, 1), (5, 2))
    ]
    return recorded_of(askings)


def test_a_joint_run_is_replayed(cached: MemoryModel, joint: Recorded) -> None:
    run = replay(joint, cached._interpreters)
    for number, (length, seed) in enumerate(((3, 1), (5, 2))):
        found = opened_by(joint.askings[number].plan, run, number)["y"]
        assert np.abs(found - clear(rows(length, seed))).max() < 1e-3


def test_a_joint_run_is_the_same_on_numpy(cached: MemoryModel, joint: Recorded, numpy_kernel: None) -> None:
    ring.set_native_level(ring.native_levels()[0])
    fast = replay(joint, cached._interpreters)
    ring.set_native_level("numpy")
    same(fast, replay(joint, cached._interpreters))
    alone = replay(replace(joint, askings=joint.askings[:1]), cached._interpreters)
    assert alone.first_difference(fast) is not None


def test_a_joint_run_with_inconsistent_shares_is_refused(cached: MemoryModel, joint: Recorded) -> None:
    other = asking(cached, {"x": rows(3, 9), "past": NO_PAST}, Selection(("y",)))
    first, second = joint.askings
    mixed = replace(first, requests=(other.requests[0], *first.requests[1:]))
    with pytest.raises(InputError, match="different shares"):
        replay(replace(joint, askings=(mixed, second)), cached._interpreters)


def test_a_request_that_continues_takes_the_shares_of_the_replay_before(cached: MemoryModel) -> None:
    x, handle = rows(5), b"h" * 16
    first = asking(cached, {"x": x[:, :4], "past": NO_PAST}, Selection((), ("present",)), handle=handle)
    began = replay(recorded_of([first]), cached._interpreters)
    kept = Kept(handle, "present", (1, 4, WIDTH), np.dtype(np.float32))
    second = asking(
        cached,
        {"x": x[:, 4:], "past": kept},
        Selection(("y",), (), ("past",)),
        held=began.held(0, {"past": "present"}),
    )
    recorded = recorded_of([second], b"t" * 16)
    went_on = replay(recorded, cached._interpreters)
    assert np.abs(opened_by(second.plan, went_on)["y"] - clear(x)[:, -1:]).max() < 1e-3
    same(went_on, replay(recorded, cached._interpreters))
    again = replay(recorded_of([first]), cached._interpreters)  # other keys, other shares of the same value
    other = replace(second, held=again.held(0, {"past": "present"}))
    assert (
        went_on.first_difference(replay(replace(recorded, askings=(other,)), cached._interpreters))
        is not None
    )


@pytest.mark.parametrize(("skip", "length"), [(0, 3), (1, 3), (-2, 6)])
def test_a_request_takes_a_part_of_what_the_replay_before_kept(
    cached: MemoryModel, skip: int, length: int
) -> None:
    x, handle = rows(5), b"h" * 16
    first = asking(cached, {"x": x[:, :4], "past": NO_PAST}, Selection((), ("present",)), handle=handle)
    began = replay(recorded_of([first]), cached._interpreters)
    kept = Kept(handle, "present", (1, 4, WIDTH), np.dtype(np.float32)).view(skip, length, 1)
    chosen, held = Selection(("y",), (), ("past",)), began.held(0, {"past": "present"})
    second = asking(cached, {"x": x[:, 4:], "past": kept}, chosen, held=held)
    run = replay(recorded_of([second], b"t" * 16), cached._interpreters)
    session = onnxruntime.InferenceSession(cached_model().SerializeToString())
    past = session.run(["present"], {"x": x[:, :4], "past": NO_PAST})[0]
    feed = {"x": x[:, 4:], "past": View(skip, 1).of_array(past, length)}
    assert np.abs(opened_by(second.plan, run)["y"] - session.run(["y"], feed)[0]).max() < 1e-3


def test_a_model_with_noise_is_refused() -> None:
    model = MemoryModel(scores_of(["scores"]), noise=wish())
    recorded = recorded_of([asking_of(model, feed(1))])
    with pytest.raises(PlanError, match="a model with noise cannot be repeated"):
        replay(recorded, model._interpreters)
