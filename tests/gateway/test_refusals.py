"""What the gateway refuses, and how: OpenAI's form of errors, the right status, the reason."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from onnxpuma import errors
from onnxpuma.gateway.fields import ChatRequest, CompletionRequest, read
from onnxpuma.gateway.refusal import Refused, status_of
from onnxpuma.gateway.steering import options_of

CHAT = {"model": "story", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("logprobs", True, "keep the logits as shares"),
        ("top_logprobs", 3, "keep the logits as shares"),
        ("response_format", {"type": "json_schema", "json_schema": {}}, "without seeing the text"),
        ("response_format", {"type": "json_object"}, "without seeing the text"),
        ("tools", [{"type": "function", "function": {"name": "f"}}], "without seeing the text"),
        ("functions", [{"name": "f"}], "without seeing the text"),
        ("audio", {"voice": "a"}, "text alone"),
        ("modalities", ["text", "audio"], "text alone"),
        ("store", True, "stores nothing"),
        ("reasoning_effort", "high", "no such control"),
        ("best_of", 2, "keep the logits as shares"),
    ],
)
def test_what_cannot_be_had_on_shares(field: str, value: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as found:
        read(ChatRequest, json.dumps(CHAT | {field: value}).encode())
    assert (status_of(found.value), found.value.param) == (400, field)
    assert found.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "neutral",
    [
        {"logprobs": False, "top_logprobs": 0, "seed": None, "tools": [], "n": 1, "store": False},
        {"response_format": {"type": "text"}, "tool_choice": "none", "modalities": ["text"]},
        {"user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True},
    ],
)
def test_what_asks_for_nothing_is_no_matter(neutral: dict[str, Any]) -> None:
    assert options_of(read(ChatRequest, json.dumps(CHAT | neutral).encode())) == {}


@pytest.mark.parametrize("drawn", [{"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}])
def test_a_seed_cannot_fix_a_draw(drawn: dict[str, Any]) -> None:
    asked = read(ChatRequest, json.dumps(CHAT | drawn | {"seed": 7}).encode())
    with pytest.raises(Refused, match="the servers draw the random numbers") as found:
        options_of(asked)
    assert (status_of(found.value), found.value.param) == (400, "seed")


@pytest.mark.parametrize("greedy", [{}, {"temperature": 0}, {"temperature": 0, "presence_penalty": 1}])
def test_a_seed_changes_nothing_of_a_greedy_answer(greedy: dict[str, Any]) -> None:
    seeded = read(ChatRequest, json.dumps(CHAT | greedy | {"seed": 7}).encode())
    assert options_of(seeded) == options_of(read(ChatRequest, json.dumps(CHAT | greedy).encode()))


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"{", None, "is not JSON"),
        (b"[1]", None, "no.* JSON object|not a JSON object"),
        (
            b'{"model": "story", "messages": [{"role": "user", "content": "x"}], "n": NaN}',
            None,
            "is not JSON",
        ),
        (CHAT | {"temperatur": 1}, "temperatur", "no field of this request"),
        (CHAT | {"temperature": 3}, "temperature", "less than or equal to 2"),
        (CHAT | {"temperature": "1"}, "temperature", "valid number"),
        (CHAT | {"top_p": 0}, "top_p", "greater than 0"),
        (CHAT | {"n": 0}, "n", "greater than or equal to 1"),
        (CHAT | {"n": 99}, "n", "less than or equal to 16"),
        (CHAT | {"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        (CHAT | {"messages": []}, "messages", "at least 1"),
        ({"messages": CHAT["messages"]}, "model", "required"),
        (CHAT | {"draft": "/etc"}, "draft", "'none' or 'prompt'"),
    ],
)
def test_requests_that_are_wrong(body: Any, param: str | None, message: str) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refused, match=message) as found:
        read(ChatRequest, sent)
    assert found.value.param == param
    assert "Traceback" not in str(found.value)


def test_an_error_quotes_no_value() -> None:
    """A mistake in a field must not copy a private text into logs."""
    with pytest.raises(Refused) as found:
        read(ChatRequest, json.dumps(CHAT | {"n": "my secret"}).encode())
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, {}),
        ({"temperature": 0, "top_p": 0.5}, {"do_sample": False}),
        ({"temperature": 0.7}, {"do_sample": True, "temperature": 0.7}),
        ({"temperature": 1, "top_p": 1}, {"do_sample": True, "temperature": 1, "top_p": 1}),
        ({"top_p": 1, "min_p": 0, "top_k": -1}, {}),
        ({"top_p": 0.9, "top_k": -1}, {"do_sample": True, "top_p": 0.9, "top_k": 0}),
        ({"min_p": 0.1}, {"do_sample": True, "min_p": 0.1}),
        ({"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logit_bias": {}}, {}),
        ({"presence_penalty": 0.5}, {"do_sample": True, "temperature": 0, "presence_penalty": 0.5}),
        (
            {"temperature": 0, "top_p": 0.5, "logit_bias": {"17": -100}},
            {"do_sample": True, "temperature": 0, "logit_bias": {17: -100}},
        ),
        (
            {"temperature": 2, "repetition_penalty": 1.1},
            {"do_sample": True, "temperature": 2, "repetition_penalty": 1.1},
        ),
        ({"max_tokens": 5, "min_tokens": 2}, {"max_new_tokens": 5, "min_new_tokens": 2}),
        ({"max_tokens": 5, "max_completion_tokens": 3}, {"max_new_tokens": 3}),
        ({"fixed_length": True, "draft": "prompt"}, {"fixed_length": True, "draft": "prompt"}),
    ],
)
def test_options_of_the_pipeline(asked: dict[str, Any], options: dict[str, Any]) -> None:
    assert options_of(read(ChatRequest, json.dumps(CHAT | asked).encode())) == options


def test_a_bias_for_what_is_no_token() -> None:
    asked = read(ChatRequest, json.dumps(CHAT | {"logit_bias": {"the": 1}}).encode())
    with pytest.raises(Refused, match="no token id"):
        options_of(asked)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages.0.content",
        ),
        ([{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}], "messages.1.role"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "messages.0.content"),
    ],
)
def test_messages_of_other_kinds(messages: Any, param: str) -> None:
    with pytest.raises(Refused) as found:
        read(ChatRequest, json.dumps(CHAT | {"messages": messages}).encode()).chat()
    assert found.value.param == param


def test_token_ids_belong_to_another_tokenizer() -> None:
    asked = read(CompletionRequest, b'{"model": "story", "prompt": [1, 2, 3]}')
    with pytest.raises(Refused, match="token ids"):
        asked.prompts()


def test_the_status_of_every_error_of_the_package() -> None:
    due = {
        errors.InputError: 400,
        errors.UnsupportedModelError: 400,
        errors.BusyError: 429,
        errors.RequestTimeoutError: 504,
        errors.PeerLostError: 503,
        errors.AuthenticationError: 503,
        errors.LockstepError: 503,
        errors.RemoteError: 502,
        errors.UnreliableError: 500,
        errors.PlanError: 500,
        errors.ConfigError: 500,
        errors.ModelError: 500,
        errors.ProtocolError: 500,
    }
    assert {kind: status_of(kind("m", "h")) for kind in due} == due


def said(gateway: Any, **asked: Any) -> Any:
    return gateway.client.chat.completions.create(**(CHAT | asked))


def test_errors_as_the_client_sees_them(plain: Any) -> None:
    with pytest.raises(openai.NotFoundError) as found:
        said(plain, model="gpt-5")
    assert found.value.body == {
        "message": "there is no model 'gpt-5' (this gateway has story, endless, vectors, hearing, turning)",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    with pytest.raises(openai.BadRequestError, match="vectors is a model for feature-extraction"):
        said(plain, model="vectors")
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        said(plain, model="endless")
    with pytest.raises(openai.BadRequestError, match="story is a model for text-generation"):
        plain.client.embeddings.create(model="story", input="x")
    with pytest.raises(openai.BadRequestError, match="the model has 64 positions") as caught:
        said(plain, messages=[{"role": "user", "content": "x" * 70}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="have 3 dimensions"):
        plain.client.embeddings.create(model="vectors", input="x", dimensions=7)
    with pytest.raises(openai.BadRequestError, match="ask for at most 128"):
        plain.client.completions.create(model="story", prompt=["x"] * 20, n=10)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BusyError("full", "later"), openai.RateLimitError),
        (errors.RequestTimeoutError("slow", "later"), openai.InternalServerError),
        (errors.PeerLostError("gone", "look"), openai.InternalServerError),
        (ZeroDivisionError("a secret text"), openai.InternalServerError),
    ],
)
def test_errors_of_the_servers(kit: Any, story: Any, error: Exception, kind: Any) -> None:
    with kit.plainly({"story": story}) as gateway:
        gateway.runners["story"][0].fail = error
        for stream in (False, True):
            with pytest.raises(kind) as found:
                said(gateway, stream=stream)
            assert "secret" not in str(found.value)
        assert ("retry-after" in found.value.response.headers) == isinstance(error, errors.BusyError)
        gateway.runners["story"][0].fail = None
        assert said(gateway).choices[0].message.content == kit.STORY


def test_an_error_in_the_middle_of_a_stream(kit: Any, endless: Any) -> None:
    with kit.plainly({"endless": endless}, seconds=0.01) as gateway:
        stream = gateway.client.completions.create(model="endless", prompt="a", max_tokens=300, stream=True)
        next(iter(stream))
        gateway.runners["endless"][0].fail = errors.PeerLostError("party 1 is gone", "start it")
        with pytest.raises(openai.APIError, match="party 1 is gone"):
            list(stream)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("GET", "/v1/chat/completions", {}, 405),
        ("POST", "/v1/chat/completions", {"content": "{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/v1/audio/transcriptions", {"json": {}}, 415),
        ("POST", "/v1/audio/transcriptions", {"files": {"other": b"x"}}, 400),
        ("POST", "/v1/audio/transcriptions", {"files": {"file": b"x"}, "data": {"model": "hearing"}}, 400),
        (
            "POST",
            "/v1/audio/transcriptions",
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
            400,
        ),
    ],
)
def test_other_mistakes_have_the_same_form(
    plain: Any, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = httpx.request(method, plain.url + path, **options)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
