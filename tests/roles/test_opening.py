"""What servers compare before they compute: they refuse differing shares, and both holders make a key."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError, OnnxpumaError, TransportError
from onnxpuma.mpc.prf import PartyKeys, fresh_part
from onnxpuma.mpc.protocols.dpf import share_ids
from onnxpuma.mpc.protocols.sketch import COMBINATIONS
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.request.message import deal_inputs, public_part, received
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.server import opening
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import Side, open_session
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.link import as_bytes
from onnxpuma.transport.memory import MemoryLink, memory_links
from tests.roles.dealing import Private, place_of

NAMES = ("key of 0", "key of 1", "key of 2")

SEED, CORRECTIONS, LEAVES = range(3)


@pytest.fixture(scope="module")
def blueprint(model_dir: Path) -> Blueprint:
    return Blueprint.read(model_dir)


@pytest.fixture
def plan(blueprint: Blueprint, feed: dict[str, np.ndarray]) -> Plan:
    shapes = {name: array.shape for name, array in feed.items()}
    return Plans(blueprint).get(shapes, {"attention_mask": feed["attention_mask"]})


class Opened:
    """The three servers' keys, or the errors that ended the opening."""

    def __init__(
        self,
        blueprint: Blueprint,
        plan: Plan,
        feed: dict[str, np.ndarray],
        private: Private,
        coins: Sequence[Sequence[bytes]] | None = None,
        session: bytes = b"s" * 16,
        names: Sequence[str] = NAMES,
        client_key: str = "",
    ) -> None:
        body, public = public_part(blueprint, plan, feed, Selection(("y",)))
        body.id = bytes(16)
        shown = [as_bytes(b) for b in public]
        self.links = memory_links(timeout=5.0)
        self.keys: list[PartyKeys | None] = [None] * 3
        self.errors: list[OnnxpumaError | None] = [None] * 3
        common = tuple(fresh_part() for _ in range(3))

        def work(party: int) -> None:
            held = [as_bytes(b) for b in private[party]]
            asked = SimpleNamespace(plan_digest=plan.digest)
            job = Job(Request("client", body, shown, held, b"", (0, 0)), asked, {}, client_key)  # type: ignore[arg-type]
            job.plan = plan
            job.session, job.coins = session, common if coins is None else tuple(coins[party])
            try:
                side = Side(job, received(plan, party, held))
                batch = Batch(session, [job])
                self.keys[party] = open_session(self.links[party], batch, [side], names)
            except OnnxpumaError as error:
                self.errors[party] = error

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    def refused(self) -> list[int]:
        return [i for i, error in enumerate(self.errors) if isinstance(error, InputError)]


def dealt(plan: Plan, feed: dict[str, np.ndarray]) -> Private:
    """Private buffers that tests may change."""
    return [
        [bytearray(as_bytes(b)) for b in buffers] for buffers in deal_inputs(plan, plan.client_values(feed))
    ]


def same_words(keys: Sequence[PartyKeys | None]) -> list[bytes]:
    """The first words of the three keys, which both holders derive alike."""
    found = []
    for key in range(3):
        mine, theirs = keys[key], keys[(key - 1) % 3]
        assert mine is not None
        assert theirs is not None
        words = [holder.draw(key, (4,), 64).tobytes() for holder in (mine, theirs)]
        assert words[0] == words[1]
        found.append(words[0])
    return found


def test_honest_shares_give_three_keys_that_two_hold(
    blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    found = Opened(blueprint, plan, feed, dealt(plan, feed))
    assert found.errors == [None] * 3
    assert len(set(same_words(found.keys))) == 3
    for link in found.links:
        sent = [link.traffic.peers[peer] for peer in range(3) if peer != link.party]
        assert [peer.payload_sent for peer in sent] == [64 + 4 * COMBINATIONS] * 2
        assert [peer.messages_sent for peer in sent] == [1, 1]


@pytest.mark.parametrize("party", [0, 1, 2])
@pytest.mark.parametrize("second", [False, True])
def test_a_real_input_that_differs_between_two_holders(
    second: bool, party: int, blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    """Either holder's copy of each component changes by one bit: both holders notice and say so."""
    private = dealt(plan, feed)
    private[party][place_of(plan, "x", second)][-1] ^= 1
    found = Opened(blueprint, plan, feed, private)
    holders = sorted({party, (party + 1) % 3 if second else (party - 1) % 3})
    assert found.refused() == holders
    for holder in holders:
        error = found.errors[holder]
        assert error is not None
        assert (
            error.message == f"the client sent server {holders[0]} and server {holders[1]} different shares"
        )
        assert error.hint


@pytest.mark.parametrize("party", [0, 1, 2])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("part", [SEED, CORRECTIONS, LEAVES])
def test_ids_whose_keys_do_not_fit(
    part: int, second: bool, party: int, blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    private = dealt(plan, feed)
    private[party][place_of(plan, "ids", second) + part][-3] ^= 16
    found = Opened(blueprint, plan, feed, private)
    assert len(found.refused()) >= 2
    assert all("different shares" in e.message for e in found.errors if isinstance(e, InputError))


def other_rows(
    plan: Plan, feed: dict[str, np.ndarray], private: Private, pairs: Sequence[int], by: int
) -> None:
    """Whole pairs of keys, each sound in itself, look the first id up in another row."""
    changed = feed["ids"].copy()
    changed[0, 0] = (changed[0, 0] + by) % 50
    keys = share_ids(changed, 50)
    for pair in pairs:
        for party, second in ((pair, False), ((pair - 1) % 3, True)):
            place = place_of(plan, "ids", second)
            mine = keys[party].following if second else keys[party].own
            private[party][place : place + 3] = [
                bytearray(as_bytes(part)) for part in (mine.seed, mine.corrections, mine.leaves)
            ]


@pytest.mark.parametrize("pairs", [(0,), (1,), (2,), (0, 1), (1, 2), (2, 0)])
def test_pairs_of_keys_that_read_different_rows(
    pairs: tuple[int, ...], blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    """The parts that two holders have in common agree here; only the combinations reveal it."""
    private = dealt(plan, feed)
    other_rows(plan, feed, private, pairs, by=1)
    found = Opened(blueprint, plan, feed, private)
    assert len(found.refused()) == 2
    assert all("read other rows" in e.message for e in found.errors if isinstance(e, InputError))


def test_all_pairs_of_another_row_are_a_question(
    blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray]
) -> None:
    private = dealt(plan, feed)
    other_rows(plan, feed, private, (0, 1, 2), by=1)
    assert Opened(blueprint, plan, feed, private).errors == [None] * 3


def test_another_request_client_or_session_gives_other_codes_and_keys(
    blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if every generator repeats itself: keys and codes are bound to their purpose."""
    monkeypatch.setattr(opening, "fresh_part", lambda: b"p" * 32)
    private = dealt(plan, feed)
    coins = [[b"c" * 32] * 3] * 3
    seen = set[bytes]()
    variants: list[dict[str, Any]] = [
        {},
        {"session": b"t" * 16},
        {"client_key": "another"},
        {"names": ("key of 0", "key of 1", "another")},
    ]
    for variant in variants:
        found = Opened(blueprint, plan, feed, private, coins, **variant)
        assert found.errors == [None] * 3
        words = same_words(found.keys)
        assert len(set(words)) == 3
        changed = [w for w in words if w not in seen]
        assert len(changed) == (2 if "names" in variant else 3), (
            "the pair without the other server is the same"
        )
        seen.update(words)


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_key_depends_on_both_holders(
    party: int, blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that repeats itself at two parties decides no key in which the third has a part."""
    parts = {i: iter([bytes([i]) * 32] * 9) for i in range(3) if i != party}
    here = threading.local()
    monkeypatch.setattr(
        opening, "fresh_part", lambda: next(parts[here.party]) if here.party in parts else fresh_part()
    )
    real = open_session

    def knowing(link: MemoryLink, *rest: Any) -> PartyKeys:
        here.party = link.party
        return real(link, *rest)

    monkeypatch.setitem(globals(), "open_session", knowing)
    private, coins = dealt(plan, feed), [[b"c" * 32] * 3] * 3
    first, second = (same_words(Opened(blueprint, plan, feed, private, coins).keys) for _ in range(2))
    for key in range(3):
        shared = party in (key, (key - 1) % 3)
        assert (first[key] != second[key]) == shared


def test_an_opening_of_another_length_is_no_opening(
    blueprint: Blueprint, plan: Plan, feed: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "fresh_part", lambda: b"short")
    found = Opened(blueprint, plan, feed, dealt(plan, feed))
    assert all(isinstance(error, TransportError) for error in found.errors)
