"""POST /v1/chat/completions and /v1/completions: texts, whole or as they emerge."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from onnxpuma.gateway.account import Account, total
from onnxpuma.gateway.exchange import EventStream, Exchange, answered
from onnxpuma.gateway.fields import ChatRequest, CompletionRequest, Writing, read
from onnxpuma.gateway.refusal import Refused
from onnxpuma.gateway.steering import options_of
from onnxpuma.gateway.trio import Trio
from onnxpuma.gateway.writing import Ended, Event, Task, Told, merged, written

MOST_TEXTS = 128  # in one request
_TEXT_TO_TEXT = ("text2text-generation", "summarization", "translation")


async def chat_completions(exchange: Exchange) -> Response:
    """An answer to a chat; `n` answers if so many are asked for."""
    asked = read(ChatRequest, await exchange.json())
    trio, options, count = exchange.models.trio(asked.model), options_of(asked), asked.n or 1
    task = Task(asked.chat(), options, ("text-generation",), "chats", asked.stops, exchange.caller)
    return await _answer(exchange, asked, _Chat(asked, trio), [task] * count)


async def completions(exchange: Exchange) -> Response:
    """The continuation of a text, or of each of several; `n` of each. An encoder-decoder turns it into
    another."""
    asked = read(CompletionRequest, await exchange.json())
    trio, options, count = exchange.models.trio(asked.model), options_of(asked), asked.n or 1
    tasks = [
        Task(text, options, ("text-generation", *_TEXT_TO_TEXT), "texts", asked.stops, exchange.caller)
        for text in asked.prompts()
        for _ in range(count)
    ]
    return await _answer(exchange, asked, _Completion(asked, trio), tasks)


async def _answer(exchange: Exchange, asked: Writing, form: _Form, tasks: Sequence[Task]) -> Response:
    if len(tasks) > MOST_TEXTS:
        raise Refused(
            f"the request asks for {len(tasks)} texts", f"ask for at most {MOST_TEXTS} at a time", param="n"
        )
    events = merged([written(form.trio, task, begun=place > 0) for place, task in enumerate(tasks)])
    if asked.stream:
        first = await exchange.present(anext(events))  # its errors still have a status
        return EventStream(_chunks(form, first, events, len(tasks)))
    return answered(await exchange.present(_whole(form, events, len(tasks))))


async def _whole(form: _Form, events: AsyncGenerator[tuple[int, Event]], count: int) -> dict[str, Any]:
    texts = [form.opening(place) for place in range(count)]
    ends: dict[int, Ended] = {}
    async for place, event in events:
        if isinstance(event, Told):
            texts[place] += event.text
        else:
            ends[place] = event
    choices = [
        {"index": place, **form.text(texts[place]), "logprobs": None, "finish_reason": ends[place].reason}
        for place in range(count)
    ]
    accounts = [ends[place].account for place in range(count)]
    return form.frame(choices, form.kind) | form.cost(accounts)


async def _chunks(
    form: _Form, first: tuple[int, Event], later: AsyncGenerator[tuple[int, Event]], count: int
) -> AsyncGenerator[dict[str, Any]]:
    accounts: dict[int, Account] = {}

    def chunk(place: int, body: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": place, **body, "logprobs": None, "finish_reason": reason}
        made = form.frame([choice], form.chunk_kind)
        return made | {"usage": None} if form.include_usage else made

    try:
        for place in range(count):
            for body in form.begin(place):
                yield chunk(place, body)
        pending: tuple[int, Event] | None = first
        while pending is not None:
            place, event = pending
            if isinstance(event, Told):
                yield chunk(place, form.delta(event.text))
            else:
                accounts[place] = event.account
                end = chunk(place, form.delta(""), event.reason)
                yield end | {"onnxpuma": event.account.figures(form.show_shares)}
            pending = await anext(later, None)
        if form.include_usage:
            told = form.cost([accounts[place] for place in range(count)])
            yield form.frame([], form.chunk_kind) | told
    finally:
        await later.aclose()


@dataclass
class _Form(ABC):
    """How an endpoint writes its answers."""

    asked: Writing
    trio: Trio
    kind = ""
    chunk_kind = ""
    prefix = ""

    def __post_init__(self) -> None:
        self._id = f"{self.prefix}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        options = self.asked.stream_options
        self.include_usage = bool(options and options.include_usage)
        self.show_shares = bool(self.asked.show_shares)

    def frame(self, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        digest = self.trio.digest
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.trio.name,
            "system_fingerprint": None if digest is None else f"fp_{digest[:12]}",
            "choices": choices,
        }

    def cost(self, accounts: Sequence[Account]) -> dict[str, Any]:
        prompts = self.asked.n or 1
        groups = [accounts[at : at + prompts] for at in range(0, len(accounts), prompts)]
        account = total([total(group, shared_prompt=True) for group in groups])
        return {"usage": account.openai_usage(), "onnxpuma": account.figures(self.show_shares)}

    def opening(self, place: int) -> str:
        """The text before the one that is written."""
        return ""

    def begin(self, place: int) -> list[dict[str, Any]]:
        """The bodies of the chunks before the first piece."""
        return []

    @abstractmethod
    def text(self, text: str) -> dict[str, Any]:
        """The body of a choice with the whole text."""

    @abstractmethod
    def delta(self, text: str) -> dict[str, Any]:
        """The body of a chunk with a piece of it; "" for the last."""


class _Chat(_Form):
    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def begin(self, place: int) -> list[dict[str, Any]]:
        return [{"delta": {"role": "assistant", "content": ""}}]

    def text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}


class _Completion(_Form):
    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def opening(self, place: int) -> str:
        assert isinstance(self.asked, CompletionRequest)
        return self.asked.prompts()[place // (self.asked.n or 1)] if self.asked.echo else ""

    def begin(self, place: int) -> list[dict[str, Any]]:
        opening = self.opening(place)
        return [self.text(opening)] if opening else []

    def text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def delta(self, text: str) -> dict[str, Any]:
        return {"text": text}
