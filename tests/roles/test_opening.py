"""What servers compare before they compute: differing shares are refused; both holders make a key."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import InputError, OnnxpumaError, PlanError, TransportError
from onnxpuma.mpc.dpf import share_ids
from onnxpuma.mpc.prf import PartyKeys, fresh_part
from onnxpuma.mpc.sketch import COMBINATIONS
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles import client as client_module
from onnxpuma.roles import opening
from onnxpuma.roles.client import Client
from onnxpuma.roles.job import Job
from onnxpuma.roles.opening import open_session
from onnxpuma.roles.owner import load_weights, share_model
from onnxpuma.roles.plans import Plans
from onnxpuma.roles.request import deal, public_part, received
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.curve import generate
from onnxpuma.transport.link import Buffer, as_bytes
from onnxpuma.transport.memory import MemoryLink, memory_links

Private = list[list[Any]]
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
                inputs = received(plan, party, held)
                self.keys[party] = open_session(self.links[party], job, inputs, names)
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
    """Private buffers that may be changed."""
    return [[bytearray(as_bytes(b)) for b in buffers] for buffers in deal(plan, plan.client_values(feed))]


def place_of(plan: Plan, name: str, second: bool) -> int:
    """Where the first buffer of a component of this input stands among the private ones."""
    place = 0
    for entry in plan.inputs:
        each = 3 if entry.depth else 1
        if entry.name == name:
            return place + each * second
        place += 2 * each
    raise KeyError(name)


def same_words(keys: Sequence[PartyKeys | None]) -> list[bytes]:
    """The first words of the three keys; both holders derive them alike."""
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
    """Each component, changed at either of its holders, by one bit: both holders see it and say so."""
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
    """Let whole pairs of keys, in themselves in order, look the first id up elsewhere."""
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
    """What two holders have in common agrees here: only the combinations tell."""
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
    """Even where every generator repeats itself: keys and codes are bound to what they are for."""
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
    """A generator that repeats itself at two parties decides no key that the third one has a part in."""
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


# ---- through servers ----------------------------------------------------------------------------------


def hidden_layer() -> onnx.ModelProto:
    """y = x W + rows of a table: what it opens is linear in the weights, so an attack is easy to read."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(0, 1, (4, 4)), "table": rng.normal(0, 1, (9, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["xw", "rows"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hidden",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def hidden_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hidden")
    onnx.save(hidden_layer(), folder / "hidden.onnx")
    share_model(folder / "hidden.onnx", folder)
    return folder


@pytest.fixture
def served(hall: Any, hidden_dir: Path) -> Iterator[Client]:
    patient(hall)
    threads = [hall.start(party, hidden_dir) for party in range(3)]
    assert all(thread.ready.wait(30) for thread in threads)
    with Client(hall.config, hall.client_keys) as client:
        yield client


def patient(hall: Any) -> None:
    """On a busy machine nobody passes for dead: no test here is about that."""
    hall.config = replace(hall.config, timeouts=replace(hall.config.timeouts, connect=20.0, heartbeat=20.0))


ASKED = {"x": np.zeros((1, 4), np.float32), "ids": np.zeros(1, np.int64)}


def cheating(monkeypatch: pytest.MonkeyPatch, change: Callable[[Plan, Private], None]) -> None:
    """From now on the client changes what it deals."""

    def deal_otherwise(plan: Plan, values: Any) -> list[list[Buffer]]:
        private: Private = [[bytearray(as_bytes(b)) for b in buffers] for buffers in deal(plan, values)]
        change(plan, private)
        return private

    monkeypatch.setattr(client_module, "deal", deal_otherwise)


def test_parts_of_two_clients_make_no_request(
    hall: Any, hidden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same id, same public part: one client asks server 0, another one, with its own shares, the others."""
    second = generate()
    patient(hall)
    hall.config = replace(hall.config, clients={**hall.config.clients, "second": second.public})
    threads = [hall.start(party, hidden_dir) for party in range(3)]
    assert all(thread.ready.wait(30) for thread in threads)
    blueprint = Blueprint.read(hidden_dir)
    with (
        Client(hall.config, hall.client_keys, blueprint) as one,
        Client(hall.config, second, blueprint) as two,
    ):
        for client in (one, two):
            client._cluster.connect()
        monkeypatch.setattr("onnxpuma.transport.cluster.os.urandom", lambda count: b"r" * count)
        ended: list[OnnxpumaError] = []
        asking = [
            threading.Thread(target=ask_some, args=(client, servers, ended), daemon=True)
            for client, servers in ((one, (0,)), (two, (1, 2)))
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(25)
    assert len(ended) == 2, "neither is answered, and neither waits"
    assert any(isinstance(error, PlanError) for error in ended)
    assert any("was sent another request than party 0" in error.message for error in ended)


def ask_some(client: Client, servers: Sequence[int], ended: list[OnnxpumaError]) -> None:
    """Send these servers a request, and the others nothing."""
    push = client._cluster._push
    client._cluster._push = lambda server, frames: server.number not in servers or push(server, frames)  # type: ignore[method-assign]
    try:
        client.run(ASKED)
    except OnnxpumaError as error:
        ended.append(error)


def one_unit_more(plan: Plan, private: Private) -> None:
    """Server 2 has one unit more of component 2 of x than server 1: so y gets w_2 + w_0 of one row."""
    words = np.frombuffer(private[2][place_of(plan, "x", False)], np.uint64)
    words[0] += np.uint64(1 << 18)


def another_row(plan: Plan, private: Private) -> None:
    """Component 0 of the table is read at row 5, the two others at row 0."""
    for party, keys in enumerate(share_ids(np.array([5]), 9)):
        if party in (0, 2):
            mine, place = (
                (keys.own, place_of(plan, "ids", False))
                if party == 0
                else (
                    keys.following,
                    place_of(plan, "ids", True),
                )
            )
            private[party][place : place + 3] = [
                bytearray(as_bytes(p)) for p in (mine.seed, mine.corrections, mine.leaves)
            ]


@pytest.mark.parametrize("attack", [one_unit_more, another_row])
def test_a_client_that_gives_two_servers_different_shares_learns_nothing(
    attack: Callable[[Plan, Private], None],
    served: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., None],
) -> None:
    def refusals() -> list[str]:
        return [r.getMessage() for r in caplog.records if "different shares" in r.getMessage()]

    caplog.set_level(logging.INFO, "onnxpuma.roles")
    honest = served.run(ASKED).outputs["y"]
    caplog.clear()
    steps: list[int] = []
    with monkeypatch.context() as patch:
        cheating(patch, attack)
        with pytest.raises(InputError, match="different shares"):
            served.run(ASKED, progress=lambda done, *_: steps.append(done))
    assert not [done for done in steps if done], "a step was computed"
    until(refusals)  # a server tells the client before its log
    assert all("of client failed" in text for text in refusals()), "who did it is in the log"
    assert np.abs(served.run(ASKED).outputs["y"] - honest).max() < 1e-4, "the servers serve on"


@pytest.mark.parametrize("attack", [one_unit_more, another_row])
def test_what_the_attack_reads_where_nothing_is_compared(
    attack: Callable[[Plan, Private], None], served: Client, hidden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail: the answer is a sum of components, one server's file gives the rest."""
    monkeypatch.setattr(opening, "component_code", lambda *_: bytes(32))
    monkeypatch.setattr(opening, "_check_sketch", lambda *_: None)
    honest = served.run(ASKED).outputs["y"].astype(np.float64)
    cheating(monkeypatch, attack)
    got = served.run(ASKED).outputs["y"].astype(np.float64) - honest
    weights = load_weights(hidden_dir, 0)["model"]
    if attack is one_unit_more:
        # server 1's file has w_1 and w_2; here the answer is compared with the sum that server 2 holds
        held = load_weights(hidden_dir, 2)["model"]["w"].total[0]
        wanted = held.view(np.int64) / 2.0**18
        modulus = 2.0**28
    else:
        table = weights["table"].first.astype(np.uint32)
        wanted = (table[5] - table[0]).view(np.int32) / 2.0**18
        modulus = 2.0**14
    apart = (got - wanted + modulus / 2) % modulus - modulus / 2
    assert np.abs(wanted).max() > 50, "components are random words"
    assert np.abs(apart / modulus).max() < 1e-5
