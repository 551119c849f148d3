"""Servers with too little memory for their weights: the same words, bounded memory, clear errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.config import MemoryConfig
from onnxpuma.errors import ConfigError, OnnxpumaError, PlanError, TransportError
from onnxpuma.mpc.forms import reading
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import open_shares, read_weights
from onnxpuma.roles.shared.words_file import WORDS
from tests.mpc.forms.packed import readers
from tests.roles.layered import VOCABULARY, interpreters, layered_model, run_words
from tests.roles.test_failure import Asking

pytestmark = pytest.mark.timeout(240)

Feed = dict[str, np.ndarray]
APART = 0.1  # of 20: two runs round differently, and each layer makes more of it
FEED: Feed = {"ids": np.array([[3, 88, 0, 3, VOCABULARY - 1]])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("layered")
    onnx.save(layered_model(), made / "layered.onnx")
    share_model(made / "layered.onnx", made)
    return made


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 1 << 10)


def whole(folder: Path) -> int:
    return SharedModel.read(folder).residence(None).memory


def served(hall: Any, folder: Path, memory: tuple[int, int, int]) -> list[Any]:
    """Servers in threads, each with so many bytes for its weights; 0: all that it needs."""
    started = []
    for party, size in enumerate(memory):
        config = replace(hall.config, memory=MemoryConfig(size / 1e9))
        started.append(hall.start(party, folder, config=config))
    return started


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_run_computes_the_same_words(folder: Path, part: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SharedModel.read(folder)
    every = run_words(folder, model.residence(None), FEED, monkeypatch)
    again = run_words(folder, model.residence(None), FEED, monkeypatch)
    assert np.array_equal(every, again), "the keys are fixed"
    place = model.residence(int(part * whole(folder)))
    assert place.streamed or place.packed
    assert np.array_equal(run_words(folder, place, FEED, monkeypatch), every)
    assert not readers()


@pytest.mark.parametrize("party", range(3))
def test_what_look_ups_read_is_made_with_the_weights(folder: Path, party: int) -> None:
    """Not by the first request, which would wait for it."""
    model = SharedModel.read(folder)
    with closing(open_shares(folder, party, model)) as shares:
        table = read_weights(shares, model, model.residence(None))[next(iter(model.stored))]["table"]
    assert isinstance(table, Weights)
    assert table._narrow is not None
    for narrow, component in zip(table._narrow, table.components, strict=True):
        assert np.array_equal(narrow, component.astype(np.uint32))


def test_weights_that_do_not_fit_are_streamed_by_every_run(hall: Any, folder: Path) -> None:
    least = int(0.1 * whole(folder))
    started = served(hall, folder, (least, 0, int(0.5 * whole(folder))))  # each has its own budget
    assert all(thread.ready.wait(30) for thread in started)
    model = SharedModel.read(folder)
    sizes = [model.residence(size or None).streamed_bytes for size in (least, 0, int(0.5 * whole(folder)))]
    assert sizes[0] > sizes[2] > sizes[1] == 0
    clear = None
    with Client(hall.config, hall.client_keys, model) as client:
        for _ in range(2):
            outcome = client.run(FEED)
            y = outcome.outputs["y"]
            clear = y if clear is None else clear
            assert np.abs(y - clear).max() < APART
            uses = [report.streamed for report in outcome.reports]
            assert uses[0].bytes_read == uses[1].bytes_read == uses[1].key_bytes == 0
            assert uses[0].key_bytes == 2 * sizes[0]
            assert uses[2].bytes_read == uses[2].key_bytes > 0
            assert outcome.reports[2].phases["products"] > 0
    assert not readers()


def test_the_order_that_a_plan_predicts_is_that_of_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a matrix was taken out of turn")

    monkeypatch.setattr(reading.Reading, "_give_up", refused)
    place = SharedModel.read(folder).residence(int(0.1 * whole(folder)))
    run_words(folder, place, FEED, monkeypatch)


def test_damage_ends_the_run_and_a_restored_file_serves_again(
    hall: Any, folder: Path, tmp_path: Path
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / file.name).chmod(0o600)
    words = tmp_path / WORDS
    content = words.read_bytes()
    model = SharedModel.read(tmp_path)
    size = int(0.1 * whole(tmp_path))
    started = served(hall, tmp_path, (size, size, size))
    assert all(thread.ready.wait(30) for thread in started)
    last = max(content.rfind(b"}"), len(content) - 50)  # of the array that a run reads last or nearly so
    with Client(hall.config, hall.client_keys, model) as client:
        clear = client.run(FEED).outputs["y"]
        for _ in range(2):
            overwrite(words, content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :])
            with pytest.raises(OnnxpumaError, match=r"damaged: the words of|not those that its owner wrote"):
                client.run(FEED)
            assert not readers()
            overwrite(words, content)
            assert np.abs(client.run(FEED).outputs["y"] - clear).max() < APART


def overwrite(path: Path, content: bytes) -> None:
    """New bytes in the same file, with another time of writing."""
    with path.open("r+b") as file:
        file.write(content)
    later = time.time_ns() + 1_000_000_000
    os.utime(path, ns=(later, later))


def test_a_file_cut_short_ends_the_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    place = SharedModel.read(tmp_path).residence(int(0.1 * whole(tmp_path)))
    read = Streamed.product

    def cut(weight: Streamed, *rest: Any) -> Any:
        os.truncate(tmp_path / WORDS, 1000)
        return read(weight, *rest)

    monkeypatch.setattr(Streamed, "product", cut)
    with pytest.raises(PlanError, match="cut short"):
        run_words(tmp_path, place, FEED, monkeypatch)
    assert not readers()


def test_too_little_memory_for_a_block(hall: Any, folder: Path) -> None:
    started = served(hall, folder, (100, 100, 100))
    for thread in started:
        error = thread.ended()
        assert isinstance(error, ConfigError)
        assert "are too little for the weights" in error.message
        assert "at least --memory" in error.hint


def test_the_file_is_closed_when_a_server_ends(hall: Any, folder: Path) -> None:
    def opened() -> list[str]:
        links = [Path("/proc/self/fd") / each for each in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if link.exists() and WORDS in os.readlink(link)]

    started = served(hall, folder, (int(0.1 * whole(folder)),) * 3)
    assert all(thread.ready.wait(30) for thread in started)
    assert len([path for path in opened() if str(folder) in path]) == 2  # parties 1 and 2
    hall.stop()
    assert not [path for path in opened() if str(folder) in path]


def test_a_server_that_is_killed_while_it_streams(
    tmp_path: Path, until: Callable[..., None], feed: Feed
) -> None:
    onnx.save(layered_model(layers=40), tmp_path / "long.onnx")
    share_model(tmp_path / "long.onnx", tmp_path)
    size = int(0.3 * whole(tmp_path))
    with LocalCluster(tmp_path, memory=size) as cluster, cluster.client() as client:
        asking = Asking(client, FEED)
        until(lambda: asking.steps > 20, 60)
        os.kill(cluster.pids[2], signal.SIGKILL)
        assert isinstance(asking.failed(30), TransportError)
        cluster.restart(2)
        outcome = client.run(FEED, timeout=60)
        assert all(report.streamed.key_bytes for report in outcome.reports)
        assert "of which" in (cluster.folder / "carol.log").read_text()


MEMORY = """
import sys
from pathlib import Path
from onnxpuma.observe import peak_rss_bytes
from onnxpuma.roles.local.memory import run_plan
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.plan.compile import compile_plan
import numpy as np
from tests.roles.layered import interpreters
folder, memory = Path(sys.argv[1]), int(sys.argv[2]) or None
model = SharedModel.read(folder)
plan = compile_plan(model.blueprint, {"ids": (1, 4)}, {})
before = peak_rss_bytes()
found, _ = interpreters(folder, model.residence(memory))
run_plan(plan, {"ids": np.array([[1, 2, 3, 4]])}, found)
print(peak_rss_bytes() - before)
"""


def test_memory_is_bounded_by_the_budget(tmp_path: Path) -> None:
    onnx.save(layered_model(layers=2, width=1000, vocabulary=2000), tmp_path / "wide.onnx")
    share_model(tmp_path / "wide.onnx", tmp_path)
    root = str(Path(__file__).parents[2])
    grown = []
    for memory in (0, 12_000_000):
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(memory)]
        told = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": root}
        )
        grown.append(int(told.stdout))
    # All three parties are in that process. Words take 16 bytes a weight, 8 M weights.
    assert grown[0] > 3 * 16 * 7_000_000
    assert grown[1] < 3 * 12_000_000 + 60_000_000
    assert interpreters is not None
