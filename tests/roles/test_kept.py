"""Values that stay at the servers: their own client uses them by handle, for a time and up to a size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.config import KeptConfig
from onnxpuma.errors import InputError
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import PlannedOutput, Selection
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.view import WHOLE, View
from onnxpuma.roles.server.store import KeptShares, Store
from onnxpuma.transport.curve import generate

WIDTH = 4


def cached_model() -> onnx.ModelProto:
    """Attention of new rows to all rows so far: rows (1, new, 4) and a cache (1, past, 4) that grows."""
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32) for name in ("wq", "wk", "wo")}
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("Concat", ["past", "k"], ["present"], axis=1),
        helper.make_node("Transpose", ["present"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "present"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "wo"], ["y"]),
        helper.make_node("Shape", ["x"], ["shape"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "new", WIDTH]),
        helper.make_tensor_value_info("past", TensorProto.FLOAT, [1, "past", WIDTH]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "new", WIDTH]),
        helper.make_tensor_value_info("present", TensorProto.FLOAT, [1, "all", WIDTH]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [3]),
    ]
    constants = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "cached", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cached")
    onnx.save(cached_model(), made / "cached.onnx")
    share_model(made / "cached.onnx", made)
    return made


@pytest.fixture(scope="module")
def servers(folder: Path, in_threads: Any) -> Iterator[Any]:
    with in_threads(folder) as made:
        yield made


@pytest.fixture
def client(servers: Any) -> Iterator[Client]:
    with servers.client() as made:
        yield made


@pytest.fixture
def blueprint(folder: Path) -> Blueprint:
    return Blueprint.read(folder)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (1, count, WIDTH)).astype(np.float32)


NO_PAST = np.zeros((1, 0, WIDTH), np.float32)


def in_the_clear(folder: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "cached.onnx")
    return np.asarray(session.run(["y"], {"x": x, "past": NO_PAST})[0])


def test_a_cache_grows_at_the_servers_and_only_what_is_asked_for_is_opened(
    folder: Path, client: Client
) -> None:
    x = rows(6)
    began = client.run({"x": x[:, :4], "past": NO_PAST}, keep=["present"])
    assert began.outputs == {}
    kept = began.kept["present"]
    assert (kept.shape, kept.dtype) == ((1, 4, WIDTH), np.float32)
    for place in (4, 5):
        went_on = client.run(
            {"x": x[:, place : place + 1], "past": kept}, ["y"], keep=["present"], release=[kept]
        )
        assert list(went_on.outputs) == ["y"]
        assert np.abs(went_on.outputs["y"] - in_the_clear(folder, x[:, : place + 1])[:, -1:]).max() < 1e-3
        with pytest.raises(InputError, match="do not hold 'present'"):
            client.run({"x": x[:, :1], "past": kept})
        kept = went_on.kept["present"]
        assert kept.shape == (1, place + 1, WIDTH)
    client.release([kept])
    with pytest.raises(InputError, match="do not hold 'present'"):
        client.run({"x": x[:, :1], "past": kept})
    client.release([kept])


def test_a_kept_value_is_the_one_that_was_computed(client: Client) -> None:
    x = rows(3)
    both = client.run({"x": x, "past": NO_PAST}, ["present"], keep=["present"])
    again = client.run({"x": x, "past": both.kept["present"]}, ["present"])
    assert np.abs(again.outputs["present"][:, :3] - both.outputs["present"]).max() <= 2**-17
    whole = client.run({"x": x, "past": both.outputs["present"]}, ["y"])
    by_handle = client.run({"x": x, "past": both.kept["present"]}, ["y"])
    assert np.abs(whole.outputs["y"] - by_handle.outputs["y"]).max() < 1e-3


@pytest.mark.parametrize(
    ("skip", "length"),
    [(0, 4), (0, 1), (2, 3), (1, 2), (-3, 8), (-2, 5), (-1, 2)],  # of five rows
)
def test_a_request_takes_a_part_of_a_kept_value(folder: Path, client: Client, skip: int, length: int) -> None:
    import onnxruntime

    x, session = rows(6), onnxruntime.InferenceSession(folder / "cached.onnx")
    whole = client.run({"x": x[:, :5], "past": NO_PAST}, keep=["present"]).kept["present"]
    clear = session.run(["present"], {"x": x[:, :5], "past": NO_PAST})[0]
    for _ in range(2):  # the whole stays where it is
        part = whole.view(skip, length, axis=1)
        assert part.shape == (1, length, WIDTH)
        done = client.run({"x": x[:, 5:], "past": part}, ["y", "present"])
        past = View(skip, 1).of_array(clear, length)
        for name, want in zip(
            ["y", "present"], session.run(["y", "present"], {"x": x[:, 5:], "past": past}), strict=True
        ):
            assert np.abs(done.outputs[name] - want).max() < 1e-3
        assert done.outputs["present"].shape == (1, length + 1, WIDTH)
    client.release([part])
    with pytest.raises(InputError, match="do not hold"):
        client.run({"x": x[:, :1], "past": whole})


def test_servers_refuse_a_part_that_a_kept_value_does_not_have(client: Client) -> None:
    """A foreign client that checks nothing."""
    kept = client.run({"x": rows(3), "past": NO_PAST}, keep=["present"]).kept["present"]
    refused = {
        ((1, 0, WIDTH), View(0, 1)): "takes the places 0 to 0",
        ((1, 4, WIDTH), View(0, 1)): "takes the places 0 to 4",
        ((1, 3, WIDTH), View(1, 1)): "takes the places 1 to 4",
        ((1, 2, WIDTH), View(-2, 1)): "takes the places -2 to 0",
        ((1, 3, WIDTH), View(0, 3)): "along axis 3",
        ((1, 300, WIDTH), View(-297, 1)): "puts 297 copies",
        ((1, 3, WIDTH), View(2**31 - 1, 1)): "takes the places",
        ((1, 3, WIDTH), View(0, 2**32 - 1)): "along axis 4294967295",
        ((1, 2, WIDTH), WHOLE): "has shape",
    }
    for (shape, view), why in refused.items():
        with pytest.raises(InputError, match=why):
            client.run({"x": rows(1), "past": replace(kept, shape=shape, taken=view)})
    assert client.run({"x": rows(1), "past": kept}, ["y"]).outputs["y"].shape == (1, 1, WIDTH)


def test_copies_in_front_are_bounded_by_the_limits_of_an_input(hall: Any, folder: Path, until: Any) -> None:
    hall.config = replace(hall.config, limits=replace(hall.config.limits, elements=4 * WIDTH))
    threads = [hall.start(party, folder) for party in range(3)]
    until(lambda: all(thread.ready.is_set() for thread in threads))
    with Client(hall.config, hall.client_keys) as client:
        kept = client.run({"x": rows(2), "past": NO_PAST}, keep=["present"]).kept["present"]
        assert client.run({"x": rows(1), "past": kept.view(-2, 4, 1)}).outputs["y"].shape == (1, 1, WIDTH)
        with pytest.raises(InputError, match="has 20 elements, 16 are allowed"):
            client.run({"x": rows(1), "past": kept.view(-3, 5, 1)})


def test_what_cannot_be_kept_or_taken_is_refused_before_anything_is_sent(client: Client) -> None:
    feed = {"x": rows(2), "past": NO_PAST}
    with pytest.raises(InputError, match="'shape' is not secret-shared"):
        client.run(feed, keep=["shape"])
    with pytest.raises(InputError, match="no output 'presents'"):
        client.run(feed, keep=["presents"])
    kept = client.run(feed, keep=["present"]).kept["present"]
    with pytest.raises(InputError, match="has shape"):
        client.run({"x": rows(2), "past": replace(kept, shape=(1, 2, WIDTH + 1))})
    with pytest.raises(InputError, match="of type int64"):
        client.run({"x": rows(2), "past": replace(kept, dtype=np.dtype(np.int64))})


def test_a_wrong_handle_or_shape_is_refused_by_the_servers(client: Client) -> None:
    kept = client.run({"x": rows(2), "past": NO_PAST}, keep=["present"]).kept["present"]
    for wrong in (replace(kept, handle=os.urandom(16)), replace(kept, name="y"), replace(kept, handle=b"")):
        with pytest.raises(InputError, match="do not hold"):
            client.run({"x": rows(2), "past": wrong})
    with pytest.raises(InputError, match=r"has shape \(1, 2, 4\), the request says \(1, 3, 4\)"):
        client.run({"x": rows(2), "past": replace(kept, shape=(1, 3, WIDTH))})
    assert client.run({"x": rows(2), "past": kept}, ["y"]).outputs["y"].shape == (1, 2, WIDTH)


def test_nobody_else_can_use_a_handle_and_idle_ones_expire(hall: Any, folder: Path, until: Any) -> None:
    other = generate()
    hall.config = replace(
        hall.config,
        clients={**hall.config.clients, "other": other.public},
        kept=KeptConfig(seconds=2.0, megabytes=1),
    )
    threads = [hall.start(party, folder) for party in range(3)]
    until(lambda: all(thread.ready.is_set() for thread in threads))
    with Client(hall.config, hall.client_keys) as mine, Client(hall.config, other) as theirs:
        kept = mine.run({"x": rows(2), "past": NO_PAST}, keep=["present"]).kept["present"]
        with pytest.raises(InputError, match="do not hold"):
            theirs.run({"x": rows(1), "past": kept})
        theirs.release([kept])
        assert mine.run({"x": rows(1), "past": kept}).outputs["y"].shape == (1, 1, WIDTH)
        with pytest.raises(InputError, match="a client may keep"):
            mine.run({"x": rows(1), "past": rows(20000)}, keep=["present"])
        sleep(2.5)
        with pytest.raises(InputError, match="do not hold"):
            mine.run({"x": rows(1), "past": kept})


@pytest.fixture(scope="module")
def closed_servers(folder: Path, tmp_path_factory: pytest.TempPathFactory, in_threads: Any) -> Iterator[Any]:
    """The same model, whose cache clients may keep but not open."""
    out = tmp_path_factory.mktemp("closed")
    share_model(folder / "cached.onnx", out, keep_only=["present"])
    with in_threads(out) as made:
        yield made


def test_what_goes_on_from_a_closed_output_takes_that_and_nothing_else(closed_servers: Any) -> None:
    with closed_servers.client() as client:
        began = client.run({"x": rows(2), "past": NO_PAST}, ["y"], keep=["present", "y"])
        present, y = began.kept["present"], began.kept["y"]
        on = client.run({"x": rows(1), "past": present}, ["y"], keep=["present"])
        assert on.kept["present"].shape == (1, 3, WIDTH)
        assert client.run({"x": y, "past": NO_PAST}, ["y"]).outputs["y"].shape == (1, 2, WIDTH)
        refused = {
            "kept at the servers, no array": {"x": rows(1), "past": rows(2)},
            "'past' does not accept the kept 'y'": {"x": rows(1), "past": y},
            "'x' does not accept the kept 'present'": {"x": present, "past": NO_PAST},
        }
        for why, feed in refused.items():
            with pytest.raises(InputError, match=why) as caught:
                client.run(feed, ["y"])
            assert caught.value.hint


def test_servers_refuse_it_too(closed_servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign client that checks nothing and declares a closed value open."""
    with closed_servers.client() as client:
        kept = client.run({"x": rows(2), "past": NO_PAST}, keep=["present", "y"]).kept
        present, y = replace(kept["present"], closed=False), kept["y"]
        monkeypatch.setattr("onnxpuma.roles.request.feed.check_filling", lambda *_: None)
        refused = {
            "kept at the servers, no array": {"x": rows(1), "past": rows(2)},
            "'past' does not accept the kept 'y'": {"x": rows(1), "past": y},
            "'x' does not accept the kept 'present'": {"x": present, "past": NO_PAST},
        }
        for why, feed in refused.items():
            with pytest.raises(InputError, match=why):
                client.run(feed, ["y"])
        assert client.run({"x": rows(1), "past": present}, ["y"]).outputs["y"].shape == (1, 1, WIDTH)


def test_a_server_that_was_started_again_says_so(folder: Path) -> None:
    with LocalCluster(folder) as servers, servers.client() as client:
        kept = client.run({"x": rows(2), "past": NO_PAST}, keep=["present"]).kept["present"]
        servers.restart(1)
        with pytest.raises(InputError, match="do not hold"):
            client.run({"x": rows(1), "past": kept})
        assert client.run({"x": rows(1), "past": NO_PAST}, ["y"]).outputs["y"].shape == (1, 1, WIDTH)


def test_only_what_the_selection_needs_is_planned(folder: Path) -> None:
    blueprint, _ = prepare(folder / "cached.onnx")
    shapes = {"x": (1, 2, WIDTH), "past": (1, 3, WIDTH)}
    cache = compile_plan(blueprint, shapes, {}, Selection((), ("present",)))
    computed = [step.operator.name for step in cache.steps if not step.operator.name.startswith("Range")]
    assert computed == ["MatMul", "Concat"]
    assert [entry.name for entry in cache.inputs] == ["x", "past"]
    held = compile_plan(blueprint, shapes, {}, Selection((), ("present",), ("past",)))
    assert [entry.name for entry in held.inputs] == ["x"]
    assert [entry.name for entry in held.held] == ["past"]
    assert len({cache.digest, held.digest}) == 2
    assert cache.kept[0].secret
    assert all(output.verdict for output in cache.opened), "nothing but whether a value left its range"


# ---- the store ----------------------------------------------------------------------------------------


def shares(count: int, session: bytes = b"s") -> KeptShares:
    words = np.zeros((count,), np.uint64)
    output = PlannedOutput("y", (count,), np.dtype(np.float32), RESTING, True)
    return KeptShares(Replicated(0, words, words, Format(64, 18)), output, session)


def test_a_client_displaces_only_its_own() -> None:
    store = Store(KeptConfig(seconds=60, megabytes=1))  # 62,500 elements
    store.put("a", b"1", {"y": shares(30000)})
    store.put("b", b"1", {"y": shares(60000)})
    store.put("a", b"2", {"y": shares(30000)})
    store.get("a", b"1", "y", (30000,))
    store.put("a", b"3", {"y": shares(30000)})
    with pytest.raises(InputError):
        store.get("a", b"2", "y", (30000,))
    store.get("a", b"1", "y", (30000,))
    store.get("b", b"1", "y", (60000,))
    assert store.size == 16 * 120000
    store.release("a", [(b"1", "y"), (b"9", "y"), (b"3", "z")])
    assert store.size == 16 * 90000


@pytest.mark.parametrize(
    ("shape", "view"),
    [((30, 1), View(0, 0)), ((), WHOLE), ((), View(0, 1)), ((29,), View(2, 0)), ((29, 1), View(1, 1))],
)
def test_a_shape_that_is_not_that_of_the_part_is_refused(shape: tuple[int, ...], view: View) -> None:
    store = Store(KeptConfig())
    store.put("a", b"1", {"y": shares(30)})
    with pytest.raises(InputError, match=r"the kept 'y' has shape|a view"):
        store.get("a", b"1", "y", shape, view)
    assert store.get("a", b"1", "y", (30,)).words.size == 30
    assert store.get("a", b"1", "y", (31,), View(-2, 0)).words.size == 30


def test_a_view_is_kept_without_what_it_was_cut_from() -> None:
    store = Store(KeptConfig())
    large = np.zeros((1000, 1000), np.uint64)
    whole = KeptShares(Replicated(0, large[:1], large[:1], Format(64, 18)), shares(1).output, b"s")
    store.put("a", b"1", {"y": whole})
    entry = store._clients["a"][b"1"].values["y"]
    assert entry.words.first.base is None


def test_servers_that_hold_values_of_different_runs_do_not_begin() -> None:
    from onnxpuma.roles.server.job import Job

    class Fixed:
        def digest(self) -> bytes:
            return bytes(32)

    asked: Any = type("A", (), {"plan_digest": "00" * 32})()
    first = Job(Fixed(), asked, {"past": shares(1, b"one")})  # type: ignore[arg-type]
    second = Job(Fixed(), asked, {"past": shares(1, b"two")})  # type: ignore[arg-type]
    assert first.digest != second.digest
