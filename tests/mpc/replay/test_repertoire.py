"""A protocol that is replayed sends the same words in the same rounds, and returns the same."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import onnxpuma
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, PublicWords, Replicated, Sum3, see
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.protocols import dpf
from onnxpuma.mpc.protocols.convert import replicate_sum
from onnxpuma.mpc.protocols.fourier import all_series
from onnxpuma.mpc.protocols.histogram import Histogram, row_peak
from onnxpuma.mpc.protocols.linear import matmul, multiply
from onnxpuma.mpc.protocols.maximum import row_maximum_by_fours
from onnxpuma.mpc.protocols.smooth import activation
from onnxpuma.mpc.protocols.truncate import resolve
from onnxpuma.mpc.replay.repertoire import Repertoire
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.simulate import shared_reals
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.transport.memory import memory_links, side_by_side
from tests.roles.layered import layered_model

pytestmark = pytest.mark.skipif(native() is None, reason="programs are made of the kernel's calls")
WHOLE = Format(64, 18)
PACKAGE = Path(onnxpuma.__file__).parent


def _product(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    return [(yield from resolve(party, multiply(party, x, y), party.next_pivot(), WHOLE))]


def _square(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    """Of one operand given twice; its result is still a term."""
    yield from ()
    return [multiply(party, x, y)]


def _late(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    """Its results are on their way when it ends."""
    yield from ()
    return [replicate_sum(party, matmul(party, x, y)), replicate_sum(party, multiply(party, y, y))]


def _gelu(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    return [(yield from activation(party, x + y, all_series()["gelu"], party.next_pivot(), WHOLE))]


def _largest(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    lengths = np.full(x.shape[0], x.shape[1])
    seen = see(party, (x - y).flat(), party.next_pivot())
    return [(yield from row_maximum_by_fours(party, seen, lengths))]


def _peak(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    lengths = np.full(x.shape[0], x.shape[1])
    seen = see(party, (x - y).flat(), party.next_pivot())
    return [(yield from row_peak(party, seen, lengths, Histogram(6, 4, 1), 44))]


def _branches(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    """It looks at its words, which no protocol may do: nothing stands for it."""
    yield from ()
    return [x + y if int(x.first[0, 0]) % 2 else x - y]


def _noisy(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
    """Each party adds words of its own."""
    own = party.alone(lambda: np.random.default_rng().integers(0, 1 << 40, x.shape).astype(np.uint64))
    yield from ()
    return [Sum3(party.index, x.first + own, x.format)]


KERNELS = [_product, _square, _late, _gelu, _largest, _peak, _branches]
Kernel = Callable[..., Protocol[list[Form]]]


class _Tape:
    """What three parties send, and what they return, in runs one after the other with keys that stay."""

    def __init__(self, replay: bool) -> None:
        self.keys = [PartyKeys.from_keys(p, bytes([p] * 16), bytes([(p + 1) % 3] * 16)) for p in range(3)]
        self.repertoires = [Repertoire() for _ in range(3)] if replay else None
        self.sent: list[list[Any]] = [[], [], []]

    def run(
        self, kernel: Kernel, operands: Sequence[Sequence[Form]], copies: int = 1
    ) -> list[list[np.ndarray]]:
        links, found = memory_links(timeout=20.0), [list[np.ndarray]() for _ in range(3)]

        def work(index: int) -> None:
            party = Party(links[index], self.keys[index])
            send, sent = links[index].send, self.sent[index]

            def noting(peer: int, tag: Any, buffers: Any) -> None:
                sent.append((peer, tag.round, b"".join(bytes(b) for b in buffers)))
                send(peer, tag, buffers)

            links[index].send = noting  # type: ignore[method-assign]
            forms = party.run(self._whole(kernel, party, [each[index] for each in operands], copies))
            found[index] = [w for form in forms for w in _words(form)]

        side_by_side(links, bytes(16), work)
        return found

    def _whole(self, kernel: Kernel, party: Party, operands: list[Form], copies: int) -> Protocol[list[Form]]:
        """Several at once, and an exchange for what is on its way."""
        if self.repertoires is not None:
            self.repertoires[party.index].begin()
        every = []
        for _ in range(copies):
            party.turn = 1
            if self.repertoires is None:
                every.append(kernel(party, *operands))
            else:
                repertoire = self.repertoires[party.index]
                every.append(repertoire.run(kernel, kernel, True, party, operands))
        results = yield from parallel([_own_turn(party, one) for one in every])
        yield
        return [form for forms in results for form in forms]

    def programs(self, party: int) -> int:
        assert self.repertoires is not None
        return sum(len(known.programs) for known in self.repertoires[party]._programs.values())

    def held(self) -> list[Any]:
        every = [known for one in self.repertoires or () for known in one._programs.values()]
        return [program for known in every for program in known.programs]


def _own_turn(party: Party, protocol: Protocol[list[Form]]) -> Protocol[list[Form]]:
    """As the interpreter resumes a step: with its pivots in turn."""
    turn = 1
    while True:
        party.turn = turn
        try:
            next(protocol)
        except StopIteration as stop:
            result: list[Form] = stop.value
            return result
        turn = party.turn
        yield


def _words(form: Form) -> list[np.ndarray]:
    if isinstance(form, Sum3):
        return [form.words.copy()]
    assert isinstance(form, Replicated)
    return [form.first.copy(), form.second.copy()]


def _operands(seed: int) -> list[list[Replicated]]:
    random = np.random.default_rng(seed)
    return [shared_reals(random.normal(0, 2, (6, 6))) for _ in range(2)]


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_words_travel_and_come_out(kernel: Kernel, copies: int) -> None:
    plain, replayed = _Tape(False), _Tape(True)
    for seed in range(4):
        operands = _operands(seed)
        if kernel is _square:
            operands[1] = operands[0]
        expected, found = plain.run(kernel, operands, copies), replayed.run(kernel, operands, copies)
        for mine, theirs in zip(found, expected, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(a, b)
    assert replayed.sent == plain.sent
    made = [replayed.programs(party) for party in range(3)]
    assert made == [0 if kernel is _branches else copies] * 3
    for program in replayed.held():
        assert program._stage.party is None, "a program keeps no key of a run that is over"


def test_results_on_their_way_keep_their_words_until_somebody_takes_them() -> None:
    """A program that runs again meanwhile is another one."""

    def twice(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
        repertoire, found = Repertoire(), []
        repertoire.begin()
        for pair in ((x, y), (y, x)):
            found += yield from repertoire.run(_late, _late, True, party, pair)
            yield
        assert sum(len(known.programs) for known in repertoire._programs.values()) == 2
        return found

    def plainly(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
        found = []
        for pair in ((x, y), (y, x)):
            found += yield from _late(party, *pair)
            yield
        return found

    operands = _operands(9)
    for mine, theirs in zip(
        _Tape(False).run(twice, operands), _Tape(False).run(plainly, operands), strict=True
    ):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("looks", [False, True])
def test_public_words_are_read_anew_in_each_run(looks: bool) -> None:
    """One program serves all of them; a protocol that looks at them is no program."""
    repertoires = [Repertoire() for _ in range(3)]

    def scaled(party: Party, x: Replicated, by: PublicWords) -> Protocol[list[Form]]:
        words = by.words[:1] if looks and int(by.words[0]) % 2 else by.words
        product = x.as_sum().times(words, 1)
        return [(yield from resolve(party, product, party.next_pivot(), WHOLE))]

    def run(factors: np.ndarray, party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
        repertoire = repertoires[party.index]
        repertoire.begin()
        party.turn = 1
        return (yield from repertoire.run(scaled, "scaled", True, party, (x, PublicWords(factors))))

    values = np.random.default_rng(5).normal(0, 2, (6, 6))
    for factors in (np.full(6, 2, np.uint64), np.arange(6, dtype=np.uint64)):
        parts = _Tape(False).run(partial(run, factors), [shared_reals(values), shared_reals(values)])
        words = parts[0][0] + parts[0][1] + parts[1][1]
        np.testing.assert_allclose(WHOLE.decode(words), values * factors / 2, atol=2.0**-15)
    made = sum(len(known.programs) for one in repertoires for known in one._programs.values())
    assert made == (0 if looks else 3)


def test_what_comes_once_a_run_is_rehearsed_in_the_second() -> None:
    repertoires = [Repertoire() for _ in range(3)]

    def once(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
        repertoires[party.index].begin()
        return (yield from repertoires[party.index].run(_product, "product", False, party, (x, y)))

    made = []
    for _ in range(3):
        _Tape(False).run(once, _operands(3))
        made.append(sum(len(known.programs) for known in repertoires[0]._programs.values()))
    assert made == [0, 1, 1]


def test_a_run_rehearses_a_few_of_the_steps_that_come_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxpuma.mpc.replay.repertoire.AT_ONCE", 2)
    repertoires = [Repertoire() for _ in range(3)]

    def several(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
        repertoires[party.index].begin()
        found = []
        for like in range(5):
            party.turn = 1  # as the interpreter sets it
            found += yield from repertoires[party.index].run(_product, like, False, party, (x, y))
        return found

    made = []
    for _ in range(4):
        _Tape(False).run(several, _operands(3))
        made.append(sum(len(known.programs) for known in repertoires[0]._programs.values()))
    assert made == [0, 2, 4, 5]


def test_programs_that_nobody_uses_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    repertoires = [Repertoire() for _ in range(3)]
    monkeypatch.setattr("onnxpuma.mpc.replay.repertoire.MOST", 1)

    def named(like: str) -> Kernel:
        def run(party: Party, x: Replicated, y: Replicated) -> Protocol[list[Form]]:
            repertoires[party.index].begin()
            return (yield from repertoires[party.index].run(_product, like, True, party, (x, y)))

        return run

    held = []
    for like in ("a", "b", "b", "c"):
        _Tape(False).run(named(like), _operands(4))
        programs: dict[Any, Any] = dict(repertoires[0]._programs)
        held.append([key[0] for key, known in programs.items() if known.programs])
    assert held == [["a"], ["a"], ["b"], ["b"]]


def test_what_a_party_draws_alone_is_drawn_anew() -> None:
    tape, operands = _Tape(True), _operands(6)
    runs = [tape.run(_noisy, operands)[0][0] for _ in range(4)]
    assert len({run.tobytes() for run in runs}) == 4
    assert tape.programs(0) == 0


def test_protocols_and_operators_draw_from_keys_or_say_so() -> None:
    """A number drawn elsewhere would be a constant of a program, and the same in every run."""
    # The dealer of ids draws its keys; it is a client, and no step.
    rooms = [file for room in ("mpc/protocols", "mpc/forms", "ops") for file in (PACKAGE / room).glob("*.py")]
    assert len(rooms) > 100
    elsewhere = re.compile(r"import secrets|urandom|default_rng|np\.random")
    drawing = {file.stem for file in rooms if elsewhere.search(file.read_text())}
    assert drawing == {"dpf"}
    assert "secrets." not in inspect.getsource(dpf.look_up) + inspect.getsource(dpf.evaluate)
    noisy = [file for file in rooms if "onnxpuma.mpc.noise import" in file.read_text()]
    assert [file.stem for file in noisy] == ["noise"]
    assert re.findall(r".*\bdrawn\(.*", noisy[0].read_text()) == [
        "    own = party.alone(lambda: drawn(kind, scale, held.shape, held.bits))"
    ]


def test_a_model_whose_layers_are_replayed_is_right_in_every_run() -> None:
    """Its ids are secret and other ones in each run. Errors grow from layer to layer, to 0.2 without replay;
    an answer to other ids is 40 away."""
    model = layered_model(layers=4)
    shared, random = MemoryModel(model), np.random.default_rng(2)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for _ in range(3):
        feed = {"ids": random.integers(0, 90, (1, 3))}
        found = shared.run(feed).outputs["y"]
        np.testing.assert_allclose(found, session.run(["y"], feed)[0], atol=1.5)
    for interpreter in shared._interpreters:
        known = interpreter._repertoire._programs.values()
        assert sum(len(each.programs) for each in known) > 5
