"""Streams: how soon a token arrives, a client that goes away, requests that wait, stop sequences."""

from __future__ import annotations

import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from onnxpuma.gateway.stops import StopText

ASKED = {"model": "endless", "prompt": "a", "max_tokens": 300}
GENEROUS = 0.1  # seconds, on a machine that is busy with other tests; 0.02 is the aim


def test_a_token_is_sent_as_soon_as_it_is_known(kit: Any, endless: Path, record_property: Any) -> None:
    with kit.plainly({"endless": endless}, seconds=0.02) as gateway:
        arrived = []
        asked = {**ASKED, "max_tokens": 40, "stream": True}
        with httpx.stream("POST", f"{gateway.url}/v1/completions", json=asked, timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["text"]:
                    arrived.append(time.perf_counter())
        known = gateway.runners["endless"][0].ended
        assert len(arrived) == len(known) == 40
        delays = [a - k for a, k in zip(arrived, known, strict=True)]
    middle, most = (1e3 * of(delays) for of in (statistics.median, max))
    record_property("milliseconds from the token to its first byte", f"median {middle:.2f}, most {most:.2f}")
    assert 0 <= statistics.median(delays) < GENEROUS


def settled(runner: Any) -> int:
    """The number of runs, once it has stopped growing."""
    before, now = -1, len(runner.ended)
    while before != now:
        time.sleep(0.3)
        before, now = now, len(runner.ended)
    return now


def test_a_client_that_goes_away_ends_the_writing(kit: Any, endless: Path) -> None:
    with kit.plainly({"endless": endless}, seconds=0.02) as gateway:
        (runner,) = gateway.runners["endless"]
        stream = gateway.client.completions.create(**ASKED, stream=True)
        pieces = iter(stream)
        for _ in range(3):
            next(pieces)
        stream.close()
        streamed = settled(runner)
        assert 3 <= streamed < 250
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{gateway.url}/v1/completions", json=ASKED, timeout=0.3)
        assert settled(runner) - streamed < 250
        assert gateway.client.completions.create(**{**ASKED, "max_tokens": 2}).choices[0].text == "ba"


def test_more_requests_than_places(kit: Any, endless: Path) -> None:
    with kit.plainly({"endless": endless}, seconds=0.05, workers=1, waiting=1) as gateway:
        create = gateway.client.completions.create
        answers: list[Any] = []
        asked = {**ASKED, "max_tokens": 20}
        threads = [threading.Thread(target=lambda: answers.append(create(**asked))) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        with pytest.raises(openai.RateLimitError, match="1 requests for endless wait") as found:
            create(**asked)
        assert int(found.value.response.headers["retry-after"]) >= 1
        for thread in threads:
            thread.join()
        assert [answer.choices[0].text for answer in answers] == ["ba" * 10] * 2
        assert len(gateway.runners["endless"]) == 1


def test_two_trios_of_one_model_share_its_requests(kit: Any, endless: Path) -> None:
    from onnxpuma.gateway.trio import Trio

    made = [kit.Slow(endless, 0.15) for _ in range(2)]
    trios = [Trio("endless", endless, lambda runner=runner: runner, workers=1) for runner in made]  # type: ignore[misc]
    with kit.answering(trios) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x")
        asked = {**ASKED, "max_tokens": 10}
        threads = [threading.Thread(target=lambda: client.completions.create(**asked)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.models.list().data) == 1
        assert len(client.models.retrieve("endless").onnxpuma["clusters"]) == 2
    assert [len(runner.ended) for runner in made] == [10, 10]  # each text stays with its trio


@pytest.mark.parametrize(
    ("pieces", "stops", "texts", "rest"),
    [
        (["ab", "cd"], ["x"], ["ab", "cd"], ""),
        (["ab", "cd"], ["bc"], ["a", ""], ""),
        (["a\n", "\nb"], ["\n\n"], ["a", ""], ""),
        (["a\n", "b\n"], ["\n\n"], ["a", "\nb"], "\n"),
        (["abc"], ["c", "b"], ["a"], ""),
        (["aa", "ab"], ["aab"], ["", "a"], ""),
    ],
)
def test_stop_sequences(pieces: list[str], stops: list[str], texts: list[str], rest: str) -> None:
    text = StopText(stops)
    assert [text.add(piece) for piece in pieces] == texts
    assert text.end() == rest
    assert text.stopped == any(stop in "".join(pieces) for stop in stops)
