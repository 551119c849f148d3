"""The pipelines on shares: the same tokens as in the clear, and nothing remains at the servers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.tasks import SecureRunner, pipeline
from onnxpuma.tasks.build import tasks_of
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.port import Run

ENDLESS = {"eos_token_id": None}


@pytest.fixture(scope="module")
def causal(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    return Path(kit.causal_folder(folder, kit.drawn(5), generation={**ENDLESS, "suppress_tokens": [9]}))


@pytest.fixture(scope="module")
def pair(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(kit.pair_folder(tmp_path_factory.mktemp("pair"), kit.drawn(6), generation=ENDLESS))


@pytest.fixture(scope="module")
def servers(causal: Path) -> Iterator[LocalCluster]:
    with LocalCluster(causal) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def paired(pair: Path) -> Iterator[LocalCluster]:
    with LocalCluster(pair) as cluster:
        yield cluster


def written(pipe: Any, text: str, **options: Any) -> list[int]:
    return list(next(iter(pipe(text, return_tensors=True, **options)[0].values())))


def test_a_text_is_the_same_as_in_the_clear(causal: Path, servers: LocalCluster) -> None:
    with pipeline(None, causal, plain=True) as pipe:
        want = written(pipe, "hello", max_new_tokens=8)
    runner = SecureRunner(servers.client())
    with pipeline(None, folder=causal, runner=runner) as pipe:
        assert pipe.task == "text-generation"
        assert written(pipe, "hello", max_new_tokens=8) == want
        assert pipe.usage.requests == 8
        assert pipe.usage.bytes_sent > 0
        assert pipe.usage.rounds > 0
        logits = pipe("hello", max_new_tokens=2, logits=True)[0]["logits"]
        assert logits.argmax(axis=1).tolist() == want[:2]


class _Kept(SecureRunner):
    """Records the values that it keeps."""

    def run(self, run: Run) -> Any:
        result = super().run(run)
        self.kept = [*getattr(self, "kept", []), *result.kept.values()]
        return result


def test_the_servers_have_forgotten_everything(causal: Path, servers: LocalCluster) -> None:
    runner = _Kept(servers.client())
    with pipeline(None, folder=causal, runner=runner) as pipe:
        for pieces in (pipe.stream("hello"), pipe.stream("hello", max_new_tokens=2)):
            next(pieces)
            pieces.close()
        pipe("hello", max_new_tokens=3)
        assert len(runner.kept) >= 5
        feed = {"input_ids": [[1]], "attention_mask": np.ones((1, 8), np.int64)}
        for held in runner.kept:
            mask = np.ones((1, held.shape[2] + 1), np.int64)
            own = {**feed, "attention_mask": mask, "past_key_values.0.key": held}
            with pytest.raises(InputError, match="the servers do not hold"):
                runner.run(Run("model", own, ["next_token"]))


def test_a_text_without_the_logits_that_the_owner_hides(causal: Path, tmp_path: Path) -> None:
    share_model(causal, tmp_path / "shared", hide=["logits"])
    with pipeline(None, causal, plain=True) as pipe:
        want = written(pipe, "hello", max_new_tokens=3)
    with pipeline(None, tmp_path / "shared", folder=causal) as pipe:
        with pytest.raises(InputError, match="the owner of this model has hidden its logits"):
            pipe("hello", logits=True)
        assert pipe.usage.requests == 0
        assert written(pipe, "hello", max_new_tokens=3) == want


def test_an_encoder_decoder_is_the_same_as_in_the_clear(pair: Path, paired: LocalCluster) -> None:
    with pipeline("translation", pair, plain=True) as pipe:
        want = written(pipe, "hello", max_new_tokens=6)
    with pipeline("translation", folder=pair, runner=SecureRunner(paired.client())) as pipe:
        assert set(pipe.runner.graphs) == {"encoder_model", "decoder_model", "decoder_with_past_model"}
        assert tasks_of(pipe.runner, ModelFolder(pair))[0] == "text2text-generation"
        assert written(pipe, "hello", max_new_tokens=6) == want


def test_texts_of_an_encoder_decoder_share_their_runs(pair: Path, paired: LocalCluster) -> None:
    """Encoder and both decoders, texts of several lengths."""
    texts, shared = ["hello", "words", "a", "longer text"], dict[str, int]()
    with pipeline("translation", pair, plain=True) as pipe:
        want = [written(pipe, text, max_new_tokens=6) for text in texts]
    together = Barrier(len(texts))
    with closing(SecureRunner(paired.client())) as first, ThreadPoolExecutor(len(texts)) as pool:

        def write(text: str) -> list[int]:
            runner = first.another()
            run = runner._client.run

            def recorded(*feed: Any, graph: str, **options: Any) -> Any:
                together.wait(60)
                outcome = run(*feed, graph=graph, **options)
                shared[graph] = max(shared.get(graph, 0), outcome.reports[0].requests)
                return outcome

            runner._client.run = recorded
            with pipeline("translation", folder=pair, runner=runner) as own:
                return written(own, text, max_new_tokens=6)

        assert list(pool.map(write, texts)) == want
    assert shared.keys() == {"encoder_model", "decoder_model", "decoder_with_past_model"}
    assert min(shared.values()) > 1


def test_a_cluster_is_asked_by_its_file(causal: Path, servers: LocalCluster) -> None:
    with pipeline(None, folder=causal, cluster=servers.config_path) as pipe:
        assert len(written(pipe, "hello", max_new_tokens=1)) == 1


def test_an_encoder_decoder_of_which_nothing_but_the_text_is_opened(pair: Path, tmp_path: Path) -> None:
    """The servers alone hand values from one graph to the next: no client can substitute its own."""
    shared = share_model(
        pair, tmp_path / "closed", hide=["logits"], keep_only=["present*", "last_hidden_state"]
    )
    assert shared.graphs["decoder_model"].resumed == {"encoder_hidden_states": ("last_hidden_state",)}
    assert set(shared.graphs["decoder_with_past_model"].resumed) == {
        "past_key_values.0.decoder.key",
        "past_key_values.0.encoder.key",
    }
    with pipeline("translation", pair, plain=True) as pipe:
        want = written(pipe, "hello", max_new_tokens=4)
    with pipeline("translation", tmp_path / "closed", folder=pair) as pipe:
        assert written(pipe, "hello", max_new_tokens=4) == want
        own = {
            "input_ids": [[1]],
            "encoder_attention_mask": np.ones((1, 2), np.int64),
            "encoder_hidden_states": np.ones(
                (1, 2, shared.graphs["decoder_model"].inputs["encoder_hidden_states"].shape[2]), np.float32
            ),
        }
        with pytest.raises(InputError, match="takes only values kept at the servers"):
            pipe.runner.run(Run("decoder_model", own, ["next_token"]))
