"""Sampling in pipelines: what is asked of the servers, and what is refused, and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import InputError
from onnxpuma.graph.sampling import MARKED, PARAMETERS_INPUT, PENALISED, SAMPLED, SHIFT, SHIFTED
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.tasks import SecureRunner, pipeline
from onnxpuma.tasks.plain_draw import drawn_plainly, probabilities
from onnxpuma.tasks.sampling import Sampling, draw, sampled, unapplied

TEXT = "hello"
ENDLESS = {"eos_token_id": None}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": 0.001}, "temperature is 0.001"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": 2}, "min_p is 2"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"presence_penalty": 1000}, "presence_penalty is 1000"),
        ({"logit_bias": {3: 500}}, "logit_bias has 500 for token 3"),
        ({"logit_bias": {-3: 5}}, "logit_bias has 5 for token -3"),
        ({"logit_bias": 7}, "logit_bias is 7"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**wrong)


def test_options_become_one() -> None:
    found = sampled(
        {"do_sample": True, "temperature": 0.5, "top_k": 3, "logit_bias": {7: -1}, "max_length": 9}
    )
    assert found["sampling"] == Sampling(0.5, 3, logit_bias=((7, -1.0),))
    assert found["max_length"] == 9
    assert "sampling" not in sampled({"do_sample": False})
    for wrong, message in (
        ({"temperature": 0.5}, "temperature steers sampling"),
        ({"do_sample": False, "top_p": 0.5}, "top_p steers sampling"),
        ({"do_sample": True, "sampling": Sampling()}, "sampling is given, and do_sample"),
        ({"do_sample": True, "seed": 3}, "seed cannot be had"),
    ):
        with pytest.raises(InputError, match=message):
            sampled(wrong)


def test_what_a_draw_asks_for() -> None:
    plain = draw(Sampling(0.5, 3, 0.9, 0.1), [1, 2], [3], 10)
    assert plain.output == SAMPLED
    assert set(plain.feed) == {PARAMETERS_INPUT}
    np.testing.assert_allclose(plain.feed[PARAMETERS_INPUT], [0.5, 3, 0.9, 0.1, 1])
    steered = Sampling(presence_penalty=1, frequency_penalty=0.5, logit_bias=((9, 2.0), (3, 1.0)))
    shifted = draw(steered, [1, 2], [3, 3, 4], 10)
    assert shifted.output == SHIFTED
    assert shifted.feed[SHIFT][0, 0].tolist() == [0, 0, 0, -1, -1.5, 0, 0, 0, 0, 2]
    again = draw(Sampling(repetition_penalty=1.5), [1, 2], [3, 3], 6)
    assert again.output == PENALISED
    assert again.feed[MARKED][0, 0].tolist() == [0, 1, 1, 1, 0, 0]
    assert set(again.feed) == {PARAMETERS_INPUT, MARKED}
    with pytest.raises(InputError, match="logit_bias has token 12"):
        draw(Sampling(logit_bias=((12, 1.0),)), [], [], 10)


def test_what_the_models_file_says_is_told() -> None:
    said = {"do_sample": True, "temperature": 0.6, "top_k": 50, "top_p": 1.0}
    told = unapplied(said, None, greedy=False)
    assert told is not None
    assert "do_sample=True, temperature=0.6, top_k=50" in told
    assert unapplied(said, None, greedy=True) is None
    other = unapplied(said, Sampling(0.6), greedy=False)
    assert other is not None
    assert "sets top_k=50, which is not applied" in other
    assert unapplied(said, Sampling(0.6, 50), greedy=False) is None
    assert unapplied({"temperature": 0.6}, None, greedy=False) is None


def test_plain_draws_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    logits = np.random.default_rng(0).normal(0, 2, (1, 40)).astype(np.float32)
    ids = torch.tensor([[3, 5, 5]])
    for steering in ((0.7, 0, 1, 0), (1, 7, 1, 0), (1, 0, 0.6, 0), (1, 0, 1, 0.2), (1.5, 20, 0.7, 0.3)):
        scores = torch.tensor(logits) / 1.0
        scores = TemperatureLogitsWarper(float(steering[0]))(ids, scores)
        scores = TopKLogitsWarper(steering[1])(ids, scores) if steering[1] else scores
        scores = TopPLogitsWarper(float(steering[2]))(ids, scores) if steering[2] < 1 else scores
        scores = MinPLogitsWarper(steering[3])(ids, scores) if steering[3] else scores
        want = torch.softmax(scores, -1).numpy()
        np.testing.assert_allclose(probabilities(logits, np.array(steering)), want, atol=1e-6)
    asked = draw(Sampling(0.0, repetition_penalty=3.0), [3], [5, 5], 40)
    penalised = RepetitionPenaltyLogitsProcessor(3.0)(ids, torch.tensor(logits)).numpy()
    token = drawn_plainly(logits[:, None], [], asked.feed, np.random.default_rng(0))
    assert token.reshape(-1).tolist() == penalised.argmax(-1).tolist()


@pytest.fixture(scope="module")
def folder(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("causal")
    return Path(kit.causal_folder(path, kit.drawn(5), generation={**ENDLESS, "suppress_tokens": [9]}))


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[Any]:
    with (
        LocalCluster(folder) as servers,
        pipeline(None, folder=folder, runner=SecureRunner(servers.client())) as pipe,
    ):
        yield pipe


def written(pipe: Any, **options: Any) -> list[int]:
    done = pipe(TEXT, return_tensors=True, **options)
    ids: list[int] = done[0]["generated_token_ids"]
    return ids


def test_texts_are_drawn_on_shares(secure: Any) -> None:
    likeliest = written(secure, max_new_tokens=3)
    assert written(secure, max_new_tokens=3, do_sample=True, temperature=0) == likeliest
    assert written(secure, max_new_tokens=2, do_sample=True, top_k=1) == likeliest[:2]
    hot = [tuple(written(secure, max_new_tokens=3, do_sample=True, temperature=20.0)) for _ in range(2)]
    assert len({*hot, tuple(likeliest)}) > 1


def test_biases_and_penalties_on_shares(secure: Any, folder: Path) -> None:
    likeliest = written(secure, max_new_tokens=1)[0]
    other = (likeliest + 1) % 100
    forced = written(secure, max_new_tokens=2, do_sample=True, temperature=0, logit_bias={other: 100})
    assert forced == [other] * 2
    once = written(
        secure,
        max_new_tokens=2,
        do_sample=True,
        temperature=0,
        logit_bias={other: 60},
        presence_penalty=100,
    )
    assert once[0] == other
    assert once[1] != other
    with pipeline(None, folder, plain=True) as plain:
        for penalty in (5.0, 0.5):
            options = {
                "max_new_tokens": 2,
                "do_sample": True,
                "temperature": 0,
                "repetition_penalty": penalty,
            }
            assert written(secure, **options) == written(plain, **options)


def test_the_runs_cost_what_the_likeliest_token_costs(secure: Any) -> None:
    written(secure, max_new_tokens=1)
    greedy = secure.usage.rounds, secure.usage.bytes_sent
    written(secure, max_new_tokens=1, do_sample=True, temperature=0.7)
    assert secure.usage.rounds <= greedy[0] + 15
    assert secure.usage.bytes_sent < 1.3 * greedy[1]


def test_drafts_and_seeds_are_refused(secure: Any) -> None:
    with pytest.raises(InputError, match="a draft is judged by the likeliest tokens"):
        secure(TEXT, do_sample=True, draft="prompt")
    with pytest.raises(InputError, match="seed cannot be had"):
        secure(TEXT, do_sample=True, seed=3)


def test_a_model_that_asks_for_sampling_says_so(kit: SimpleNamespace, tmp_path: Path) -> None:
    said = {**ENDLESS, "do_sample": True, "temperature": 0.6}
    folder = kit.causal_folder(tmp_path, kit.drawn(5), generation=said)
    with pipeline(None, folder, plain=True) as pipe:
        with pytest.warns(UserWarning, match="asks for sampling"):
            pipe(TEXT, max_new_tokens=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipe(TEXT, max_new_tokens=1, do_sample=False)
            pipe(TEXT, max_new_tokens=1, do_sample=True, temperature=0.6)
