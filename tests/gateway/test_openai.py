"""OpenAI's own Python client against the gateway: sync, async, streamed; every endpoint."""

from __future__ import annotations

import asyncio
import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from onnxpuma.errors import InputError, UnreliableError
from onnxpuma.gateway.batches import Batches
from onnxpuma.roles.request.receipt import Receipt
from onnxpuma.tasks import pipeline

TOKENS = len("Hé😀.".encode()) + 1  # one for each byte, and the end


def test_models(plain: Any) -> None:
    found = {model.id: model for model in plain.client.models.list()}
    assert list(found) == ["story", "endless", "vectors", "hearing", "turning"]
    one = plain.client.models.retrieve("story")
    assert one.owned_by == "onnxpuma"
    assert one.onnxpuma["endpoints"] == ["/v1/chat/completions", "/v1/completions"]
    assert found["vectors"].onnxpuma["task"] == "feature-extraction"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-5'"):
        plain.client.models.retrieve("gpt-5")


def test_a_chat_on_three_servers(secure: Any) -> None:
    """The whole way: the text, what it cost, and noise at each server."""
    answer = secure.client.chat.completions.create(
        model="story",
        messages=[{"role": "user", "content": "tell me"}],
        extra_body={"show_shares": True},
    )
    assert answer.choices[0].message.content == "Hé😀."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == TOKENS
    assert answer.usage.prompt_tokens == len("[user]tell me>")
    cost = answer.onnxpuma
    assert cost["requests"] == TOKENS
    assert cost["bytes"] > 0
    assert cost["rounds"] > 0
    assert cost["seconds"] >= cost["servers_seconds"] > 0
    assert [server["name"] for server in cost["servers"]] == ["alice", "bob", "carol"]
    assert len(cost["model_digest"]) == 64
    assert answer.system_fingerprint == f"fp_{cost['model_digest'][:12]}"
    assert [share["server"] for share in cost["shares"]] == [0, 1, 2]
    assert all(len(share["first_bytes"]) == 48 and share["bytes"] > 0 for share in cost["shares"])
    again = secure.client.chat.completions.create(
        model="story",
        messages=[{"role": "user", "content": "tell me"}],
        max_tokens=1,
        extra_body={"show_shares": True},
    )
    for one, other in zip(cost["shares"], again.onnxpuma["shares"], strict=True):
        assert one["first_bytes"] != other["first_bytes"]  # the same text, and other noise


def test_an_answer_names_its_runs_whose_receipts_are_stored(secure: Any) -> None:
    raw = secure.client.chat.completions.with_raw_response.create(
        model="story", messages=[{"role": "user", "content": "tell me"}], max_tokens=2
    )
    sessions = raw.parse().onnxpuma["sessions"]
    assert raw.headers["onnxpuma-sessions"] == ", ".join(sessions)
    assert len(sessions) == 2
    for session in sessions:
        receipt = Receipt.read(secure.trios["story"].receipts / f"{session}.json")
        assert receipt.session == session
        receipt.check()


def test_a_streamed_chat_on_three_servers(secure: Any) -> None:
    chunks = list(
        secure.client.chat.completions.create(
            model="story",
            messages=[{"role": "user", "content": "tell me"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert pieces == ["H", "é", "😀", "."]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].onnxpuma["rounds"] > 0
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == TOKENS
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_chat_without_streaming_and_with_parts(plain: Any) -> None:
    answer = plain.client.chat.completions.create(
        model="story",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "tell "}, {"type": "text", "text": "me"}]},
        ],
        temperature=0,
        top_p=1,
        presence_penalty=0,
        frequency_penalty=0,
        user="somebody",
        tools=[],
        response_format={"type": "text"},
    )
    assert answer.choices[0].message.content == "Hé😀."
    assert answer.usage.prompt_tokens == len("[system]be brief[user]tell me>")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + TOKENS


def test_completions(plain: Any) -> None:
    create = plain.client.completions.create
    answer = create(model="story", prompt="a>")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hé😀.", "stop")
    both = create(model="story", prompt=["a>", "b>"], n=2, echo=True)
    assert [choice.text for choice in both.choices] == ["a>Hé😀."] * 2 + ["b>Hé😀."] * 2
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.usage.prompt_tokens == 2 * len("a>")
    assert both.usage.completion_tokens == 4 * TOKENS
    streamed = list(create(model="story", prompt=["a>", "b>"], stream=True))
    for index in (0, 1):
        assert "".join(c.choices[0].text for c in streamed if c.choices[0].index == index) == "Hé😀."
    assert sum(chunk.choices[0].finish_reason == "stop" for chunk in streamed) == 2


def test_an_encoder_decoder_completes(plain: Any) -> None:
    answer = plain.client.completions.create(model="turning", prompt="yes")
    assert answer.choices[0].text == "Ja."
    assert answer.usage.prompt_tokens == len("yes")


def test_the_end_of_a_text(plain: Any) -> None:
    create = plain.client.completions.create
    limited = create(model="endless", prompt="a", max_tokens=5).choices[0]
    assert (limited.text, limited.finish_reason) == ("babab", "length")
    stopped = create(model="endless", prompt="a", stop="ab").choices[0]
    assert (stopped.text, stopped.finish_reason) == ("b", "stop")
    first = create(model="endless", prompt="a", stop=["zzz", "bab"], max_tokens=9)
    assert first.choices[0].text == ""
    held = create(model="endless", prompt="a", stop=["abz"], max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in held) == "baba"
    chat = plain.client.chat.completions.create
    said = [{"role": "user", "content": "x"}]
    both = chat(model="story", messages=said, max_completion_tokens=1, max_tokens=3)
    assert (both.choices[0].message.content, both.choices[0].finish_reason) == ("H", "length")


def test_a_fixed_length_hides_a_stop_sequence(plain: Any) -> None:
    """The servers run for the most tokens, whatever the text."""
    asked = {"model": "endless", "prompt": "a", "stop": "ab", "max_tokens": 12}
    shown = plain.client.completions.create(**asked)
    hidden = plain.client.completions.create(**asked, extra_body={"fixed_length": True})
    assert hidden.choices[0].text == shown.choices[0].text == "b"
    assert (shown.onnxpuma["requests"], hidden.onnxpuma["requests"]) == (3, 12)


def test_drafts_from_the_text(plain: Any) -> None:
    drafted = plain.client.completions.create(
        model="endless", prompt="abababab", max_tokens=12, extra_body={"draft": "prompt", "draft_tokens": 3}
    )
    assert drafted.choices[0].text == "ab" * 6
    assert drafted.onnxpuma["requests"] < 12


def test_the_async_client(plain: Any) -> None:
    async def several() -> list[str]:
        async with plain.async_client as client:

            async def one(number: int) -> str:
                stream = await client.chat.completions.create(
                    model="story", messages=[{"role": "user", "content": f"{number}"}], stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return list(await asyncio.gather(*(one(number) for number in range(12))))

    assert asyncio.run(several()) == ["Hé😀."] * 12


def test_embeddings(plain: Any, kit: Any, folders: dict[str, Any]) -> None:
    """The client asks for base64 by itself, and decodes it."""
    create = plain.client.embeddings.create
    answer = create(model="vectors", input=["ab", "b"])
    vectors = np.array([entry.embedding for entry in answer.data])
    assert answer.usage.prompt_tokens == 3
    assert [entry.index for entry in answer.data] == [0, 1]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    table = np.random.default_rng(3).normal(0, 1, (kit.tasks.VOCABULARY, 3)).astype(np.float32)
    mean = table[kit.tasks.byte_tokens("ab")].mean(axis=0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
    floats = create(model="vectors", input="ab", encoding_format="float").data[0].embedding
    np.testing.assert_allclose(floats, vectors[0], rtol=1e-6)
    raw = plain.client.embeddings.with_raw_response.create(
        model="vectors", input="ab", encoding_format="base64"
    )
    packed = raw.http_response.json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), np.float32(floats))
    assert len(create(model="vectors", input=["x"] * 100).data) == 100
    assert len(create(model="vectors", input="ab", dimensions=3).data[0].embedding) == 3


def test_texts_of_one_request_share_runs(kit: Any, tmp_path: Any) -> None:
    names = ["ab", "abc", "b" * 40, "x"]
    with kit.plainly({"v": kit.embedder(tmp_path / "v")}, workers=1) as made:
        (runner,) = made.runners["v"]
        create = made.client.embeddings.create
        alone = [create(model="v", input=name).data[0].embedding for name in names]
        before = len(runner.ended)
        found = create(model="v", input=[*names, *names[:2] * 7]).data
        assert len(runner.ended) - before == 4  # this model takes no mask: each length is a run
        np.testing.assert_allclose([entry.embedding for entry in found[:4]], alone, rtol=1e-4)
        with pytest.raises(openai.BadRequestError):
            create(model="v", input=["ab", "q" * 200])


def test_texts_of_several_callers_share_a_run(kit: Any, tmp_path: Any) -> None:
    """One that does not fit tells its own caller alone; one who has gone takes nothing along."""
    runner = kit.Slow(kit.embedder(tmp_path))
    pipe = pipeline("feature-extraction", folder=tmp_path, runner=runner)

    async def asked() -> list[Any]:
        free = asyncio.Event()

        async def run(work: Any, begun: bool) -> None:
            await free.wait()
            await asyncio.to_thread(work, pipe)

        trio = SimpleNamespace(workers=2, run=run, figures=dict, receipts=None)
        batches = Batches(trio)
        texts = (["ab", "cd"], ["de"], ["ef", "q" * 200], ["gh"])
        jobs = [asyncio.ensure_future(batches.features(each)) for each in texts]
        await asyncio.sleep(0)
        jobs[3].cancel()
        await asyncio.sleep(0)
        free.set()
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    first, second, third, fourth = asyncio.run(asked())
    assert len(runner.ended) == 1
    assert [features.shape for features, _ in first] == [(1, 2, 3)] * 2
    assert [account.prompt_tokens for _, account in second] == [2]
    assert [account.usage.requests for _, account in (*first, *second)] == [1, 0, 1]
    assert isinstance(third, InputError)
    assert isinstance(fourth, asyncio.CancelledError)


def test_a_text_that_makes_a_run_fail_fails_alone(kit: Any, tmp_path: Any) -> None:
    class Choosy(kit.Slow):  # type: ignore[misc]
        def run(self, run: Any) -> Any:
            if bad in run.feed["input_ids"]:
                raise UnreliableError("a value left its range", "calibrate")
            return super().run(run)

    (bad,) = kit.tasks.byte_tokens("z")
    pipe = pipeline("feature-extraction", folder=kit.embedder(tmp_path), runner=Choosy(tmp_path))

    async def asked() -> list[Any]:
        async def run(work: Any, begun: bool) -> None:
            await asyncio.to_thread(work, pipe)

        batches = Batches(SimpleNamespace(workers=2, run=run, figures=dict, receipts=None))
        jobs = [batches.features(each) for each in (["ab"], ["cz"], ["de"])]
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    first, second, third = asyncio.run(asked())
    assert first[0][0].shape == third[0][0].shape == (1, 2, 3)
    assert isinstance(second, UnreliableError)


def test_embeddings_pooled_as_the_model_says(kit: Any, tmp_path: Any) -> None:
    with kit.plainly({"first": kit.embedder(tmp_path / "first", modules=True)}) as made:
        found = made.client.embeddings.create(model="first", input="ab").data[0].embedding
    table = np.random.default_rng(3).normal(0, 1, (kit.tasks.VOCABULARY, 3)).astype(np.float32)
    np.testing.assert_allclose(found, table[kit.tasks.byte_tokens("a")[0]], rtol=1e-5)


@pytest.fixture
def recording(kit: Any) -> io.BytesIO:
    noise = np.random.default_rng(0).normal(0, 0.1, kit.tasks.RATE * 2).astype(np.float32)
    made = io.BytesIO()
    soundfile.write(made, noise, kit.tasks.RATE, format="WAV")
    made.seek(0)
    made.name = "speech.wav"
    return made


def test_transcriptions(plain: Any, recording: io.BytesIO) -> None:
    create = plain.client.audio.transcriptions.create
    answer = create(model="hearing", file=recording)
    assert answer.text == "ok. ok."  # two pieces of a second
    assert answer.usage.seconds == 2
    assert answer.onnxpuma["requests"] > 0
    recording.seek(0)
    assert create(model="hearing", file=recording, response_format="text").strip() == "ok. ok."
    recording.seek(0)
    events = list(create(model="hearing", file=recording, stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == "ok. ok."
    assert events[-1].type == "transcript.text.done"


@pytest.mark.parametrize("form", ["verbose_json", "srt", "vtt"])
def test_transcriptions_have_no_times(plain: Any, recording: io.BytesIO, form: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="needs times") as found:
        plain.client.audio.transcriptions.create(model="hearing", file=recording, response_format=form)
    assert found.value.param == "response_format"
