"""Plans made ahead: the same as any, in pieces that end when something happens, and dropped when wrong."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError, RequestTimeoutError, UnsupportedModelError
from onnxpuma.plan.budget import Budget
from onnxpuma.roles.request import pieces as pieces_module
from onnxpuma.roles.request import plans as plans_module
from onnxpuma.roles.request.ahead import SEEN, WAITING, Ahead
from onnxpuma.roles.request.pieces import Pieces
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.request.question import MOST, Question
from onnxpuma.roles.server.fibers import Fiber, FiberLink, Fibers
from onnxpuma.transport.link import Tag
from onnxpuma.transport.zeromq import PeerLink
from tests.plan.test_growing import blueprint_of, planned, told
from tests.roles.test_question import LENGTHS, asked, question
from tests.transport.conftest import addresses, keys, open_cluster, open_link  # noqa: F401


def get(plans: Plans, asked: Question, budget: Budget | None = None) -> Any:
    return plans.get(asked.shapes, asked.public, asked.selection, budget)


def made() -> Plans:
    return Plans(blueprint_of("llama", True))


@pytest.fixture
def always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause asks whether to go on."""
    monkeypatch.setattr(pieces_module, "ASK_SECONDS", 0.0)


class Made:
    """Counts the plans that are begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        own = plans_module.compile_plan

        def counted(*given: Any, **options: Any) -> Any:
            self.count += 1
            return own(*given, **options)

        monkeypatch.setattr(plans_module, "compile_plan", counted)


# ---- plans in pieces ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always_asked")
def test_a_plan_in_the_smallest_pieces_is_that_made_at_once() -> None:
    plans = made()
    for length in LENGTHS:
        begun, pieces = plans.begin(question(length), Budget.unlimited()), 0
        assert begun is not None
        while plans.go_on(begun, lambda: True):
            pieces += 1
        assert pieces > 100
        assert plans.begin(question(length), Budget.unlimited()) is None
        assert told(get(plans, question(length))) == told(planned(blueprint_of("llama", True), length))


@pytest.mark.usefixtures("always_asked")
@pytest.mark.parametrize("pieces", [1, 90, 130, 160, 230])
def test_a_plan_that_is_dropped_halfway_changes_no_other(pieces: int) -> None:
    plans = made()
    get(plans, question(15))
    begun = plans.begin(question(16), Budget.unlimited())
    assert begun is not None
    for _ in range(pieces):
        assert plans.go_on(begun, lambda: True)
    assert told(get(plans, question(17))) == told(planned(blueprint_of("llama", True), 17))
    assert not plans.go_on(begun, lambda: True)
    assert question(16).key not in plans._plans


def test_a_request_for_a_plan_that_is_begun_has_it_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    plans, count = made(), Made(monkeypatch)
    begun = plans.begin(question(15), Budget.unlimited())
    assert begun is not None
    plans.go_on(begun, lambda: True)
    found = get(plans, question(15))
    assert told(found) == told(planned(blueprint_of("llama", True), 15))
    assert count.count == 1
    assert get(plans, question(15)) is found
    assert not plans.go_on(begun, lambda: True)


def test_another_thread_makes_the_plan_itself() -> None:
    plans, found = made(), []
    begun = plans.begin(question(15), Budget.unlimited())
    assert begun is not None
    plans.go_on(begun, lambda: True)
    thread = threading.Thread(target=lambda: found.append(get(plans, question(15))))
    thread.start()
    thread.join(30)
    assert told(found[0]) == told(planned(blueprint_of("llama", True), 15))
    assert not plans.go_on(begun, lambda: True)
    begun = plans.begin(question(16), Budget.unlimited())
    assert begun is not None
    plans.go_on(begun, lambda: True)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(plans.go_on(begun, lambda: True)))
    thread.start()
    thread.join(30)
    assert ended == [False]
    assert told(get(plans, question(16))) == told(planned(blueprint_of("llama", True), 16))


def test_while_another_thread_plans_nothing_waits_for_it() -> None:
    plans = made()
    ahead = Ahead()
    grow(ahead, plans, 15, 17)
    with plans._lock:
        begun = plans_module.Begun(question(17), Pieces(lambda pause: None))  # type: ignore[arg-type,return-value]
        assert plans.go_on(begun, lambda: False)
    assert ahead.busy


def test_the_condition_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses come often, and the condition may poll sockets."""
    now, asked, ended = [0.0], list[int](), list[bool]()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pieces_module, "ASK_SECONDS", 4.0)

    def work(pause: Callable[[], None]) -> None:
        for _ in range(100):
            now[0] += 1.0
            pause()

    def until() -> bool:
        asked.append(int(now[0]))
        return len(asked) % 2 == 0

    pieces = Pieces(work)
    while not pieces.go_on(until):
        ended.append(True)
        now[0] += 400.0  # other work
    assert len(asked) == 25
    assert asked[:6] == [4, 8, 412, 416, 820, 824]
    assert len(ended) == 12


def test_a_plan_asks_less_often_than_it_looks_at_the_time() -> None:
    plans, looks, asked = made(), list[int](), list[int]()
    budget = Budget.unlimited()
    begun = plans.begin(question(15), budget)
    assert begun is not None
    plans.go_on(begun, lambda: True)
    own = budget.pause
    assert own is not None

    def counted() -> None:
        looks.append(1)
        own()

    def until() -> bool:
        asked.append(1)
        return False

    budget.pause, began = counted, time.perf_counter()
    assert not plans.go_on(begun, until)
    assert len(looks) > 100
    assert len(asked) <= (time.perf_counter() - began) / pieces_module.ASK_SECONDS


@pytest.mark.usefixtures("always_asked")
def test_the_pauses_of_a_plan_count_towards_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    plans, now = made(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    begun = plans.begin(question(15), Budget(1 << 50, 1 << 50, 1 << 50, seconds=20.0))
    assert begun is not None
    while plans.go_on(begun, lambda: True):
        now[0] += 1000.0
    assert question(15).key in plans._plans


# ---- which plans, and when ------------------------------------------------------------------------------


def grow(ahead: Ahead, plans: Plans, first: int, end: int) -> None:
    """A text that grows from `first` tokens on, without the plans."""
    for length in range(first, end):
        ahead.saw(plans, question(length), handle(length), [handle(length - 1)])


def handle(length: int) -> bytes:
    return length.to_bytes(16, "big")


def test_from_the_third_step_on_the_plan_is_there() -> None:
    plans, ahead = made(), Ahead()
    for length in range(15, 20):
        assert (question(length).key in plans._plans) == (length >= 17)
        get(plans, question(length))
        ahead.saw(plans, question(length), handle(length), [handle(length - 1)])
        ahead.go_on(lambda: False)
    assert not ahead.busy
    assert question(20).key in plans._plans


def test_nothing_is_done_while_something_happens() -> None:
    plans, ahead = made(), Ahead()
    grow(ahead, plans, 15, 17)
    ahead.go_on(lambda: True)
    assert ahead._begun is None
    looks = iter([False])
    ahead.go_on(lambda: next(looks, True))
    assert ahead.busy
    assert len(plans) == 0


def test_a_guess_that_was_wrong_is_the_last_until_it_would_have_been_right() -> None:
    plans, ahead = made(), Ahead()
    lengths, guessed = (10, 11, 13, 15, 17, 18, 19, 20), []
    for before, length in zip((0, *lengths), lengths, strict=False):
        ahead.saw(plans, question(length), handle(length), [handle(before)])
        guessed.append([asked.key for _, asked in ahead._waiting])
        ahead._waiting.clear()
    right = (None, 12, None, 17, 19, None, 20, 21)  # 11 leads to 12, and 13 comes; 13 to 15, which comes
    assert guessed == [[] if length is None else [question(length).key] for length in right]


def test_texts_side_by_side_go_on_each_for_itself() -> None:
    plans, ahead = made(), Ahead()
    for step in range(3):
        for text in (1, 2):
            length = 10 * text + step
            ahead.saw(plans, question(length), handle(length), [handle(length - 1)])
    assert [asked.key for _, asked in ahead._waiting] == [question(n).key for n in (12, 22, 13, 23)]


def test_memory_is_bounded() -> None:
    plans, ahead = made(), Ahead()
    for number in range(3 * SEEN):
        length = 10 + number % 2
        name = number // 2 * 100 + length
        ahead.saw(plans, question(length), handle(name), [handle(name - 1)])
    assert len(ahead._seen) == SEEN
    assert len(ahead._waiting) == WAITING


def test_a_request_that_keeps_nothing_or_shows_much_is_not_noted() -> None:
    plans, ahead = made(), Ahead()
    ahead.saw(plans, question(10), b"", [])
    ahead.saw(plans, asked((3,), np.zeros(MOST + 1)), handle(1), [])
    assert not ahead._seen


def test_what_is_noted_is_no_view_of_a_request() -> None:
    ahead, buffer = Ahead(), bytearray(np.ones(4, np.int64).tobytes())
    array = np.frombuffer(buffer, np.int64)
    ahead.saw(made(), asked((3,), array), handle(1), [])
    (seen,) = ahead._seen.values()
    assert not np.shares_memory(seen.question.public["m"], array)


@pytest.mark.parametrize(
    ("budget", "error"),
    [
        (Budget(1000, 1 << 50, 1 << 50, 100.0), InputError),
        (Budget(1 << 50, 1 << 50, 1 << 50, -1.0), InputError),
        (None, UnsupportedModelError),
    ],
)
def test_a_guess_that_cannot_be_planned_disturbs_nobody(
    budget: Budget | None, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped without a word; who asks for it is told why."""
    plans = made()
    if budget is None:
        monkeypatch.setattr(plans_module, "compile_plan", _refused)
    ahead = Ahead(lambda: budget or Budget.unlimited())
    grow(ahead, plans, 15, 17)
    ahead.go_on(lambda: False)
    assert not ahead.busy
    assert len(plans) == 0
    with pytest.raises(error):
        get(plans, question(17), budget)


def _refused(*_: Any, **__: Any) -> None:
    raise UnsupportedModelError("no", "none")


# ---- nothing waits for a plan ---------------------------------------------------------------------------


class Endless:
    """Has always more to plan."""

    busy = True

    def __init__(self) -> None:
        self.looks = 0

    def go_on(self, until: Callable[[], bool]) -> None:
        while not until():
            self.looks += 1
            time.sleep(1e-4)


def test_a_run_goes_on_when_its_words_come(open_cluster) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    links: list[PeerLink] = open_cluster(timeout=20.0)
    fibers, got, endless = Fibers(), list[bytes](), Endless()
    tag = Tag(os.urandom(16), 0, 0, "words")

    def work(fiber: Fiber) -> None:
        link = FiberLink(links[0], fiber, endless)  # type: ignore[arg-type]
        got.append(bytes(link.receive(1, tag)[0]))

    late = threading.Timer(0.1, lambda: links[1].send(0, tag, [b"late"]))
    late.start()
    fibers.start(work)
    while len(fibers):
        links[0].wait(0.01)
        fibers.go_on()
    late.join()
    assert got == [b"late"]
    assert endless.looks > 0


def test_a_run_that_plans_ahead_still_ends_when_no_words_come(open_cluster) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    links: list[PeerLink] = open_cluster(timeout=0.2)
    fibers, caught = Fibers(), list[Exception]()

    def work(fiber: Fiber) -> None:
        link = FiberLink(links[0], fiber, Endless())  # type: ignore[arg-type]
        try:
            link.receive(1, Tag(os.urandom(16), 0, 0, "words"))
        except RequestTimeoutError as error:
            caught.append(error)

    fibers.start(work)
    while len(fibers):
        links[0].read()
        fibers.go_on()
    assert len(caught) == 1
