"""A text that a pipeline writes on a thread, told to the event loop piece by piece, and its cost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from onnxpuma.gateway.account import Account
from onnxpuma.gateway.allowance import Lease, Unlimited
from onnxpuma.gateway.refusal import Refused
from onnxpuma.gateway.stops import StopText
from onnxpuma.gateway.trio import Trio
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.receipts import Receipts
from onnxpuma.tasks.rules import rules
from onnxpuma.tasks.secure import SecureRunner
from onnxpuma.tasks.text_writer import TextToText
from onnxpuma.tasks.writer import Writer, writing_options


@dataclass(frozen=True)
class Task:
    """What to write. tasks: those of pipelines that can. said: the endpoint, for the error of another."""

    item: Any
    options: Mapping[str, Any]
    tasks: tuple[str, ...]
    said: str
    stops: tuple[str, ...] = ()
    caller: Lease | Unlimited = field(default_factory=Unlimited)


@dataclass(frozen=True)
class Told:
    """A piece of the text."""

    text: str


@dataclass(frozen=True)
class Ended:
    """The end of the text. reason: "stop" at its own end or a stop sequence, "length" at the limit."""

    reason: str
    account: Account


Event = Told | Ended


async def written(trio: Trio, task: Task, begun: bool = False) -> AsyncGenerator[Event]:
    """The text in pieces, then its end. A generator that is closed, or whose task is cancelled, ends the
    writing after the token that is being computed, and the servers drop what they kept.

    begun: as for `Trio.run`. Raises Refused, Busy and the errors of the pipeline.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    stop = threading.Event()

    def tell(event: Event | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    begin = time.perf_counter()
    job = asyncio.ensure_future(trio.run(lambda pipe: _write(pipe, trio, task, begin, tell, stop), begun))

    def ended(done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            done.exception()  # for a caller that has gone: it is raised below for one that has not
        events.put_nowait(None)

    job.add_done_callback(ended)
    try:
        while (event := await events.get()) is not None:
            yield event
        job.result()
    finally:
        stop.set()
        job.cancel()


def _write(
    pipe: Pipeline,
    trio: Trio,
    task: Task,
    begin: float,
    tell: Callable[[Event], None],
    stop: threading.Event,
) -> None:
    if stop.is_set():
        return
    if not isinstance(pipe, Writer) or pipe.task not in task.tasks:
        raise not_made_for(trio, pipe, task.said)
    account = Account(cluster=trio.figures())
    limits = _limits(pipe, task)
    account.prompt_tokens = limits.prompt_tokens
    if isinstance(pipe.runner, SecureRunner):
        pipe.runner.dealt, pipe.runner.signed = account.witness, (receipts := Receipts(trio.receipts))
        account.sessions = receipts.sessions
    with task.caller.reserved(limits.prompt_tokens, limits.most) as spent:
        reason = _pieces(pipe, task, limits, account, begin, tell, stop, spent)
        account.usage = pipe.usage
    account.seconds = time.perf_counter() - begin
    tell(Ended(reason, account))


def _pieces(
    pipe: Writer,
    task: Task,
    limits: _Limits,
    account: Account,
    begin: float,
    tell: Callable[[Event], None],
    stop: threading.Event,
    spent: Callable[[int], None],
) -> str:
    """Write the text, and return why it ended."""
    text = StopText(task.stops)
    last: int | None = None
    hidden = bool(limits.options.get("fixed_length"))
    with closing(pipe.pieces(task.item, limits.options)) as pieces:
        for piece in pieces:
            if stop.is_set() or (text.stopped and not hidden):
                break
            if piece.token is not None and not text.stopped:
                account.completion_tokens += 1
                spent(1)
                last = piece.token
                if account.first_token_seconds is None:
                    account.first_token_seconds = time.perf_counter() - begin
            _tell(tell, text.add(piece.text))
            if text.stopped and not hidden:
                break
    if text.stopped:
        return "stop"
    _tell(tell, text.end())
    return "stop" if limits.ends is None or last in limits.ends else "length"


def _tell(tell: Callable[[Event], None], text: str) -> None:
    if text:
        tell(Told(text))


@dataclass(frozen=True)
class _Limits:
    prompt_tokens: int
    most: int
    ends: frozenset[int] | None  # None: it ends by itself
    options: Mapping[str, Any]


def _limits(pipe: Writer, task: Task) -> _Limits:
    """How long the prompt is and the text may be. Raises Refused where the caller may have less."""
    options = pipe.options(task.options)
    if pipe.task == "automatic-speech-recognition":
        return _Limits(0, 0, None, options)
    with closing(iter(pipe.passages(task.item, options))) as passages:  # type: ignore[type-var]
        length = next(passages).length
    found = rules(pipe.folder, writing_options(options), length)
    allowed = task.caller.most_tokens
    most = found.most
    if allowed is not None and most > allowed:
        if "max_new_tokens" in task.options:
            raise Refused(
                f"this key may have {allowed} tokens written in a request, not {most}",
                f"set max_tokens to {allowed} or less",
                param="max_tokens",
            )
        most = allowed
        options["max_new_tokens"] = most
    counted = length
    if isinstance(pipe, TextToText):
        counted = len(pipe.folder.tokenizer(task.item, verbose=False)["input_ids"])
    return _Limits(counted, most, found.ends, options)


def not_made_for(trio: Trio, pipe: Pipeline, said: str) -> Refused:
    return Refused(
        f"{trio.name} is a model for {pipe.task}, not for {said}",
        "GET /v1/models names the task of each model",
        param="model",
        code="wrong_task",
    )


async def merged(streams: Sequence[AsyncGenerator[Event]]) -> AsyncGenerator[tuple[int, Event]]:
    """The events of several texts that are written side by side, each with its place; closes them all."""
    events: asyncio.Queue[tuple[int, Event] | BaseException | None] = asyncio.Queue()

    async def pump(place: int, stream: AsyncGenerator[Event]) -> None:
        try:
            async for event in stream:
                events.put_nowait((place, event))
            events.put_nowait(None)
        except Exception as error:
            events.put_nowait(error)
        finally:
            await stream.aclose()

    pumps = [asyncio.ensure_future(pump(place, stream)) for place, stream in enumerate(streams)]
    left = len(pumps)
    try:
        while left:
            event = await events.get()
            if event is None:
                left -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event
    finally:
        for each in pumps:
            each.cancel()
