"""Fixtures of the gateway's tests: small models, and gateways that answer on a port of this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import openai
import pytest

from onnxpuma.gateway.allowance import Lease
from onnxpuma.gateway.app import gateway
from onnxpuma.gateway.catalogue import Catalogue
from onnxpuma.gateway.keys import Keyring, digest_of
from onnxpuma.gateway.serving import Listener, listen
from onnxpuma.gateway.trio import Trio
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Run
from onnxpuma.tasks.secure import SecureRunner

ROOT = Path(__file__).resolve().parents[2]
STORY = "Hé😀."
SAID = " ok."


def _builders() -> Any:
    """The builders of tiny models that the tests of the tasks have."""
    path = ROOT / "tests" / "tasks" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tests_of_tasks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


KIT = _builders()


class Slow(PlainRunner):
    """Runs in the clear, takes `seconds` for each run, and records when a run has ended."""

    def __init__(self, model: Path, seconds: float = 0.0) -> None:
        super().__init__(model)
        self.seconds = seconds
        self.ended: list[float] = []
        self.fail: Exception | None = None

    def run(self, run: Run) -> Any:
        if self.fail is not None:
            raise self.fail
        time.sleep(self.seconds)
        result = super().run(run)
        self.ended.append(time.perf_counter())
        return result


@dataclass
class Gateway:
    """A gateway that answers at `url`."""

    url: str
    trios: dict[str, Trio]
    runners: dict[str, list[Slow]] = field(default_factory=dict)
    key: str = "unused"

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60)

    @property
    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60)


@contextmanager
def answering(trios: list[Trio], **options: Any) -> Iterator[str]:
    """The address of a gateway with these models, which stops at the end of the block."""
    catalogue = Catalogue(trios)
    listener = Listener(gateway(catalogue, **options))
    place = listen("127.0.0.1", 0)
    ready = threading.Event()

    async def serve() -> None:
        await catalogue.greet()
        await listener.at(place, ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(60)
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        listener.should_exit = True
        thread.join(30)
        place.close()
        catalogue.close()
        assert not thread.is_alive()


@contextmanager
def plainly(folders: dict[str, Path], seconds: float = 0.0, **options: Any) -> Iterator[Gateway]:
    """A gateway whose models run in the clear, for tests of the gateway itself."""
    trio_options = {name: options.pop(name) for name in ("workers", "waiting") if name in options}
    runners: dict[str, list[Slow]] = {name: [] for name in folders}

    def connect(name: str) -> Callable[[], Slow]:
        def made() -> Slow:
            runners[name].append(Slow(folders[name], seconds))
            return runners[name][-1]

        return made

    trios = {name: Trio(name, folder, connect(name), **trio_options) for name, folder in folders.items()}
    with answering(list(trios.values()), **options) as url:
        yield Gateway(url, trios, runners)


def embedder(path: Path, width: int = 3, modules: bool = False) -> Path:
    """A model whose features of a token are a row of a table."""
    table = np.random.default_rng(3).normal(0, 1, (KIT.VOCABULARY, width)).astype(np.float32)
    sketch = KIT.Sketch(constants={"table": table})
    sketch.take("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    sketch.add("Gather", ["table", "input_ids"], "last_hidden_state")
    sketch.give("last_hidden_state", ["batch", "sequence", width])
    sketch.save(path / "model.onnx")
    KIT.write_folder(path, {"model_type": "bert", "max_position_embeddings": 64}, {})
    if modules:
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
        listed = [{"path": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in kinds]
        (path / "modules.json").write_text(json.dumps(listed))
        (path / "1_Pooling").mkdir()
        modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        (path / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return path


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    made = SimpleNamespace(answering=answering, plainly=plainly, embedder=embedder, STORY=STORY)
    made.tasks, made.Slow, made.SAID = KIT, Slow, SAID
    return made


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes STORY after `>`, in a chat or behind any text that ends so."""
    follow = KIT.chain(STORY, KIT.byte_tokens(">")[0])
    weights = KIT.scripted(follow)
    noise = np.random.default_rng(0).normal(0, 1e-3, weights["table"].shape)
    weights["table"] += noise.astype(np.float32)  # an identity would count as architecture, not as weights
    path = KIT.causal_folder(tmp_path_factory.mktemp("models") / "story", weights)
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}>"
    )
    return Path(path)


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes `ababab...` up to its limit."""
    a, b = KIT.byte_tokens("ab")
    weights = KIT.scripted({a: [b], b: [a]})
    folder = tmp_path_factory.mktemp("models") / "endless"
    return Path(KIT.causal_folder(folder, weights, config={"max_position_embeddings": 400}))


@pytest.fixture(scope="session")
def folders(story: Path, endless: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("more")
    heard = KIT.scripted(KIT.chain(SAID, KIT.START))
    turned = KIT.scripted(KIT.chain("Ja.", KIT.START))
    return {
        "story": story,
        "endless": endless,
        "vectors": embedder(base / "vectors"),
        "hearing": KIT.pair_folder(base / "hearing", heard, sent="input_features"),
        "turning": KIT.pair_folder(base / "turning", turned),
    }


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> Iterator[Gateway]:
    """A gateway with all kinds of models, in the clear."""
    with plainly(folders) as made:
        yield made


@pytest.fixture(scope="module")
def secure(story: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a model on three servers, which stores receipts."""
    receipts = tmp_path_factory.mktemp("receipts")
    with LocalCluster(story) as cluster:
        servers = [{"name": party.name, "host": party.host} for party in cluster.config.parties]
        trio = Trio(
            "story",
            story,
            lambda: SecureRunner(cluster.client()),
            servers=servers,
            workers=2,
            receipts=receipts,
        )
        with answering([trio]) as url:
            yield Gateway(url, {"story": trio})


@pytest.fixture
def ring() -> Callable[..., Keyring]:
    def made(key: str, **limits: Any) -> Keyring:
        return Keyring({digest_of(key): Lease("alice", **limits)})

    return made
