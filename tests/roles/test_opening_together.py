"""What servers compare before they compute several requests: each for itself, under keys bound to all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError, TransportError
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.request.message import public_part, received
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.server import opening
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import LATER, REFUSED, RUNS, Side, open_session
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.link import as_bytes
from onnxpuma.transport.memory import memory_links
from tests.roles.dealing import Private, place_of
from tests.roles.test_opening import NAMES, dealt, same_words

SESSION = b"s" * 16


@pytest.fixture(scope="module")
def blueprint(model_dir: Path) -> Blueprint:
    return Blueprint.read(model_dir)


@pytest.fixture
def plan(blueprint: Blueprint, feed: dict[str, np.ndarray]) -> Plan:
    shapes = {name: array.shape for name, array in feed.items()}
    return Plans(blueprint).get(shapes, {"attention_mask": feed["attention_mask"]})


class Opened:
    """The keys and standings at three servers. without: (server, request) that this server does not run, and
    its standing there."""

    def __init__(
        self,
        blueprint: Blueprint,
        plan: Plan,
        feed: dict[str, np.ndarray],
        privates: Sequence[Private],
        without: dict[tuple[int, int], int] | None = None,
        clients: str = "abc",
    ) -> None:
        body, public = public_part(blueprint, plan, feed, Selection(("y",)))
        shown = [as_bytes(b) for b in public]
        self.links = memory_links(timeout=5.0)
        self.keys: list[PartyKeys | None] = [None] * 3
        self.standings: list[list[int]] = [[], [], []]
        self.errors: list[Any] = [None] * 3
        self.reasons: list[list[str]] = [[], [], []]

        def work(party: int) -> None:
            sides = []
            for number, private in enumerate(privates):
                held = [as_bytes(b) for b in private[party]]
                asked: Any = SimpleNamespace(plan_digest=plan.digest)
                job = Job(Request("client", body, shown, held, b"", (0, 0)), asked, {}, clients[number])
                job.plan, job.coins = plan, tuple(bytes([i, number]) * 16 for i in range(3))
                standing = (without or {}).get((party, number), RUNS)
                inputs = received(plan, party, held) if standing == RUNS else None
                sides.append(Side(job, inputs, standing))
            try:
                batch = Batch(SESSION, [side.job for side in sides])
                self.keys[party] = open_session(self.links[party], batch, sides, NAMES)
            except TransportError as error:
                self.errors[party] = error
            self.standings[party] = [side.standing for side in sides]
            self.reasons[party] = [side.error.message for side in sides if isinstance(side.error, InputError)]

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)


def test_honest_requests_run_under_keys_that_no_other_run_has(
    blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if every generator repeats itself: keys depend on every request of the run, and their order."""
    monkeypatch.setattr(opening, "fresh_part", lambda: b"p" * 32)
    privates = [dealt(plan, feed) for _ in range(3)]
    seen = set[bytes]()
    for count, clients in ((3, "abc"), (3, "abd"), (3, "bac"), (2, "ab"), (1, "a")):
        found = Opened(blueprint, plan, feed, privates[:count], clients=clients)
        assert found.standings == [[RUNS] * count] * 3
        words = same_words(found.keys)
        assert not seen.intersection(words)
        seen.update(words)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_request_with_differing_shares_is_refused_by_all_three(
    bad: int, blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    privates = [dealt(plan, feed) for _ in range(3)]
    privates[bad][1][place_of(plan, "x", False)][-1] ^= 1
    found = Opened(blueprint, plan, feed, privates)
    due = [REFUSED if number == bad else RUNS for number in range(3)]
    assert found.standings == [due] * 3
    assert [len(reasons) for reasons in found.reasons] == [1, 1, 0], "the two holders say why"
    assert len(set(same_words(found.keys))) == 3


@pytest.mark.parametrize("standing", [LATER, REFUSED])
def test_what_one_server_cannot_run_now_none_runs(
    standing: int, blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    privates = [dealt(plan, feed) for _ in range(3)]
    found = Opened(blueprint, plan, feed, privates, {(2, 1): standing})
    assert found.standings == [[RUNS, standing, RUNS]] * 3
    same_words(found.keys)


def test_shares_that_nobody_compares_are_not_noticed(
    blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail."""
    monkeypatch.setattr(opening, "component_code", lambda *_: bytes(32))
    privates = [dealt(plan, feed) for _ in range(2)]
    privates[1][1][place_of(plan, "x", False)][-1] ^= 1
    assert Opened(blueprint, plan, feed, privates).standings == [[RUNS] * 2] * 3
