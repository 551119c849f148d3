"""InferenceSession as users of onnxruntime's know it, batches of feeds, and the client for asyncio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import onnxruntime
import pytest

import onnxpuma
from onnxpuma.config import NetworkConfig
from onnxpuma.errors import ConfigError, InputError, ModelError
from onnxpuma.roles.client.rows import alike, batched_inputs, joined, parted, pieces
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.session import InferenceSession

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with LocalCluster(DIGITS / "model.onnx") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def session(servers: LocalCluster) -> Iterator[InferenceSession]:
    with InferenceSession(cluster=servers.config_path) as made:
        yield made


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    with np.load(DIGITS / "heldout.npz") as arrays:
        return np.asarray(arrays["inputs"][:8])


@pytest.fixture(scope="module")
def logits(pixels: np.ndarray) -> np.ndarray:
    plain = onnxruntime.InferenceSession(str(DIGITS / "model.onnx"), providers=["CPUExecutionProvider"])
    return np.asarray(plain.run(None, {"pixels": pixels})[0])


def test_importing_the_package_offers_its_rooms_and_imports_no_tokenizer() -> None:
    program = (
        "import sys, onnxpuma; assert onnxpuma.errors.InputError; assert onnxpuma.tasks.pipeline;"
        "assert set(onnxpuma.__all__) <= set(dir(onnxpuma)); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_onnxruntime_tells_of_a_model(session: InferenceSession) -> None:
    plain = onnxruntime.InferenceSession(str(DIGITS / "model.onnx"), providers=["CPUExecutionProvider"])
    for ours, theirs in (
        (session.get_inputs(), plain.get_inputs()),
        (session.get_outputs(), plain.get_outputs()),
    ):
        assert [(a.name, a.shape, a.type) for a in ours] == [(a.name, a.shape, a.type) for a in theirs]
    meta = session.get_modelmeta()
    assert {name for name in dir(plain.get_modelmeta()) if name[0] != "_"} <= set(dir(meta))
    assert len(meta.custom_metadata_map["digest"]) == 64
    assert session.get_provider_options().keys() == set(session.get_providers())
    with pytest.raises(InputError, match="no IOBinding"):
        session.io_binding()
    with pytest.raises(InputError, match="no IOBinding"):
        session.run_with_iobinding(None)


def test_a_repr_tells_what_it_is_and_no_value(
    servers: LocalCluster, session: InferenceSession, pixels: Any
) -> None:
    with InferenceSession(cluster=servers.config_path) as unasked:
        assert repr(unasked) == "<InferenceSession at <Client of alice, bob, carol>>"
    session.run(None, {"pixels": pixels[:1]})
    assert "pixels tensor(float) ['batch', 1, 8, 8] -> logits" in repr(session)
    outcome = session.outcome
    assert outcome is not None
    assert repr(outcome).startswith("<Outcome: logits float32 1x10; ")
    assert f"{outcome.rounds} rounds" in repr(outcome)
    assert str(outcome.outputs["logits"][0, 0])[:5] not in repr(outcome)
    assert f"{outcome.outputs['logits'][0, 0]:.2f}"[:4] in outcome._repr_html_()
    assert "party 0" in repr(outcome.reports[0])


def test_a_network_is_for_servers_on_this_machine(servers: LocalCluster) -> None:
    with pytest.raises(ConfigError, match="network does not go with"):
        InferenceSession(cluster=servers.config_path, network=NetworkConfig(40.0, 100.0))


def test_many_feeds_share_a_run(session: InferenceSession, pixels: np.ndarray, logits: np.ndarray) -> None:
    session.run(None, {"pixels": pixels[:2]})
    rounds = session.outcome.rounds if session.outcome else 0
    taken: list[int] = []

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        for place in range(0, 8, 2):
            taken.append(place)
            yield {"pixels": pixels[place : place + 2]}

    results = session.run_many(feeds(), batch_size=3, progress=False)
    first = next(results)
    assert taken == [0, 2, 4]
    assert session.outcome is not None
    assert session.outcome.outputs["logits"].shape == (6, 10)
    assert session.outcome.rounds <= 1.2 * rounds
    found = [first, *results]
    np.testing.assert_allclose(np.concatenate([each[0] for each in found]), logits, atol=5e-3)


def test_many_feeds_are_checked(session: InferenceSession, pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        session.run_many([], batch_size=0)
    with pytest.raises(InputError, match="no input 'pixel'"):
        list(session.run_many([{"pixel": pixels[:1]}]))


def test_in_the_background_as_in_onnxruntime(session: InferenceSession, pixels: Any, logits: Any) -> None:
    told: list[tuple[list[np.ndarray], Any, str]] = []
    both = Event()

    def callback(outputs: list[np.ndarray], user_data: Any, error: str) -> None:
        told.append((outputs, user_data, error))
        if len(told) == 2:
            both.set()

    session.run_async(None, {"pixels": pixels[:1]}, callback, "a")
    session.run_async(None, {"pixel": pixels[:1]}, callback, "b")
    assert both.wait(60)
    np.testing.assert_allclose(told[0][0][0], logits[:1], atol=5e-3)
    assert told[0][1:] == ("a", "")
    assert told[1][:2] == ([], "b")
    assert "no input 'pixel'" in told[1][2]


def test_several_requests_are_awaited_together(servers: LocalCluster, pixels: Any, logits: Any) -> None:
    async def ask() -> list[np.ndarray]:
        async with onnxpuma.AsyncClient(servers.config_path, connections=2) as client:
            found = await asyncio.gather(*(client.run({"pixels": pixels[i : i + 1]}) for i in range(4)))
            with pytest.raises(InputError, match="no input 'pixel'"):
                await client.run({"pixel": pixels})
        with pytest.raises(ConfigError, match="is closed"):
            await client.status()
        return [each.outputs["logits"] for each in found]

    np.testing.assert_allclose(np.concatenate(asyncio.run(ask())), logits[:4], atol=5e-3)


def test_a_cancelled_request_is_dropped_at_once_and_the_next_one_runs(
    servers: LocalCluster, pixels: Any, logits: Any
) -> None:
    async def ask() -> np.ndarray:
        began, loop = asyncio.Event(), asyncio.get_running_loop()
        large = {"pixels": np.repeat(pixels, 100, axis=0)}
        async with onnxpuma.AsyncClient(servers.config_path, connections=1) as client:
            task = asyncio.create_task(
                client.run(large, watch=lambda _: loop.call_soon_threadsafe(began.set))
            )
            await asyncio.wait_for(began.wait(), 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 1)
            return (await client.run({"pixels": pixels[:1]}, timeout=60)).outputs["logits"]

    np.testing.assert_allclose(asyncio.run(ask()), logits[:1], atol=5e-3)


def test_rows_are_joined_and_parted() -> None:
    shapes: dict[str, Any] = {"ids": ("batch", "n"), "mask": ("batch", "n"), "size": ("m",), "scale": ()}
    assert batched_inputs(shapes) == ("ids", "mask")
    with pytest.raises(InputError, match="the first dimension of 'x' is 1"):
        batched_inputs({"x": (1, 3)})
    a, b = np.zeros((1, 3)), np.ones((2, 3))
    feeds = [{"ids": a, "size": np.array([1])}, {"ids": b, "size": np.array([2])}]
    feeds += [{"ids": b, "size": np.array([1])}, {"ids": np.ones((1, 4)), "size": np.array([1])}]
    assert alike(feeds, ("ids",)) == [[0, 2], [1], [3]]
    assert joined([feeds[0], feeds[2]], ("ids",))["ids"].shape == (3, 3)
    assert [len(each["y"]) for each in parted({"y": np.zeros((3, 2))}, [1, 2])] == [1, 2]
    with pytest.raises(ModelError, match="no row for each of 3"):
        parted({"y": np.zeros((2, 2))}, [1, 2])
    assert list(pieces(range(5), 2)) == [[0, 1], [2, 3], [4]]
