"""A run is a function: on every kernel, with any number of threads, it sends the same messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.errors import LockstepError
from onnxpuma.mpc import ring
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.prf import fresh_part
from onnxpuma.roles.audit.replay import Replayed, replay, replay_party
from onnxpuma.shipped import shipped_model
from onnxpuma.transport.link import as_bytes
from tests.roles.audit.case import LABEL, Case, opened_by

MODELS = ("digits", "breast-cancer", "tales")


def case_of(name: str) -> Case:
    shipped = shipped_model(name)
    inputs = shipped.inputs[:1, :8] if name == "tales" else shipped.inputs[:2]
    return Case.of(onnx.load(shipped.path), {shipped.input_name: inputs})


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module")
def run(case: Case) -> Replayed:
    """The run as the fastest kernel of this machine computes it."""
    return case.replay()


@pytest.fixture
def kernel() -> Iterator[Any]:
    level, threads = ring.native_level(), ring.threads()
    yield ring
    ring.set_native_level(level)
    ring.set_threads(threads)


def test_the_run_gives_the_models_outputs(case: Case, run: Replayed) -> None:
    assert sum(map(len, run.messages.values())) > 100
    found = opened_by(case.plan, run)
    for name, true in case.clear.items():
        assert np.allclose(found[name], true, atol=0.02)


def same(one: Replayed, other: Replayed) -> None:
    """Every message, tag and bytes, in both directions of comparison, and the outputs' terms."""
    assert one.first_difference(other) is None
    assert other.first_difference(one) is None
    for party in range(3):
        mine, theirs = (run.done[party][0].buffers[:-1] for run in (one, other))  # without the report
        assert list(map(as_bytes, mine)) == list(map(as_bytes, theirs))


@pytest.mark.parametrize("level", ring.native_levels()[1:])
def test_every_kernel_sends_the_same(level: str, case: Case, run: Replayed, kernel: Any) -> None:
    kernel.set_native_level(level)
    same(run, case.replay())


def test_threads_and_earlier_runs_change_nothing(case: Case, run: Replayed, kernel: Any) -> None:
    """Constant steps are computed in the first run alone; the messages of later runs must not show it."""
    kernel.set_threads(3)
    interpreters = case.interpreters()
    same(run, case.replay(interpreters))
    same(run, case.replay(interpreters))


@pytest.mark.parametrize("party", [0, 1, 2])
def test_one_party_alone_on_another_kernel(party: int, case: Case, run: Replayed, kernel: Any) -> None:
    """With what it received, one party sends what it sent."""
    kernel.set_native_level("numpy")
    alone = replay_party(case.recorded, case.interpreters()[party], party, run.messages)
    mine = Replayed(messages={way: sent for way, sent in run.messages.items() if way[0] == party})
    assert alone.first_difference(mine) is None
    assert mine.first_difference(alone) is None
    for way in alone.messages:
        assert alone.chain(*way) == run.chain(*way)


@pytest.fixture(scope="module")
def digits() -> Case:
    return case_of("digits")


def test_another_weight_another_part_another_session(digits: Case) -> None:
    """The comparison finds each of them, at the first message that shows it, and says who sent that."""
    run = digits.replay()
    parts = list(digits.recorded.parts)
    parts[1] = (fresh_part(), parts[1][1])
    other = replay(replace(digits.recorded, parts=tuple(parts)), digits.interpreters())
    found = run.first_difference(other)
    assert found is not None
    (sender, receiver), message = found
    assert (sender, receiver, message.tag.label) == (1, 0, LABEL)
    name = next(name for name, share in digits.weights[2].items() if len(share.shape) == 2)
    share = digits.weights[2][name]
    first = share.first.copy()
    first.reshape(-1)[0] += 1
    weights = [
        *digits.weights[:2],
        {**digits.weights[2], name: Replicated(2, first, share.second, share.format)},
    ]
    found = run.first_difference(replace(digits, weights=weights).replay())
    assert found is not None
    assert found[0][0] == 2
    assert found[1].tag.label != LABEL


def test_a_record_of_another_run_is_refused(digits: Case) -> None:
    run = digits.replay()
    other = replace(digits.recorded, session=b"t" * 16)
    with pytest.raises(LockstepError, match="the record has step 0, round 0"):
        replay_party(other, digits.interpreters()[0], 0, run.messages)
