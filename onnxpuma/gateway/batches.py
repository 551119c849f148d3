"""Texts that wait for one model's vectors, of one caller or of several, run together.

A run of several texts takes the rounds of one. Each caller sees to it that its texts are taken; whoever gets
a worker takes those that have waited longest, whosever they are.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxpuma.errors import TransportError
from onnxpuma.gateway.account import Account, Witness
from onnxpuma.gateway.trio import Trio
from onnxpuma.gateway.writing import not_made_for
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.features import FeatureExtraction
from onnxpuma.tasks.port import Usage
from onnxpuma.tasks.receipts import Receipts
from onnxpuma.tasks.secure import SecureRunner

MOST_TEXTS = 16
MOST_CHARACTERS = 8192  # of all together, each counted as long as the longest

Vector = tuple[np.ndarray, Account]


@dataclass(eq=False)
class _Text:
    """A text that waits, and the future of its features."""

    text: str
    caller: object
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Vector] = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.loop.create_future()

    def give(self, result: Vector | None, error: BaseException | None = None) -> None:
        """From any thread."""

        def give() -> None:
            if self.done.done():
                return
            if error is not None:
                self.done.set_exception(error)
            else:
                assert result is not None
                self.done.set_result(result)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(give)


class Batches:
    """The texts that wait for one trio."""

    def __init__(self, trio: Trio) -> None:
        self._trio = trio
        self._waiting: deque[_Text] = deque()
        self._lock = threading.Lock()

    async def features(self, texts: Sequence[str]) -> list[Vector]:
        """The features of each text, (1, tokens, width) or (1, width), and its part of the cost.

        Raises Busy as `Trio.run`, the error of the first text that has one, and Refused for a model that has
        no features of texts.
        """
        caller, loop = object(), asyncio.get_running_loop()
        mine = [_Text(text, caller, loop) for text in texts]
        with self._lock:
            self._waiting.extend(mine)
        runs = max(len(texts) / MOST_TEXTS, sum(map(len, texts)) / MOST_CHARACTERS)
        hands = max(1, min(self._trio.workers // 2, math.ceil(runs)))  # the other workers are for others
        jobs = [asyncio.ensure_future(self._see_to(caller, number > 0)) for number in range(hands)]
        try:
            await asyncio.gather(*jobs)
            return list(await asyncio.gather(*(each.done for each in mine)))
        finally:
            self._withdraw(caller)
            for job in jobs:
                job.cancel()
            for each in mine:
                each.done.cancel()

    async def _see_to(self, caller: object, begun: bool) -> None:
        """Run batches until no text of this caller waits."""
        while self._waits(caller):
            await self._trio.run(self._run, begun)
            begun = True

    def _waits(self, caller: object) -> bool:
        with self._lock:
            return any(each.caller is caller for each in self._waiting)

    def _withdraw(self, caller: object) -> None:
        with self._lock:
            left = [each for each in self._waiting if each.caller is not caller]
            self._waiting.clear()
            self._waiting.extend(left)

    def _take(self, alone: bool) -> list[_Text]:
        """The texts of the next run: the first that waits, and others of about its length."""
        with self._lock:
            if not self._waiting:
                return []
            taken = [self._waiting.popleft()]
            size, longest = len(taken[0].text).bit_length(), len(taken[0].text)
            for each in [] if alone else list(self._waiting):
                most = max(longest, len(each.text))
                if len(each.text).bit_length() != size or most * (len(taken) + 1) > MOST_CHARACTERS:
                    continue
                longest = most
                taken.append(each)
                self._waiting.remove(each)
                if len(taken) == MOST_TEXTS:
                    break
            return taken

    def _run(self, pipe: Pipeline) -> None:
        """On a worker's thread: whatever happens, each text that is taken gets a result or an error. What
        fails because of one text is tried again for each."""
        if not isinstance(pipe, FeatureExtraction) or pipe.task != "feature-extraction":
            raise not_made_for(self._trio, pipe, "embeddings")
        taken = self._take(getattr(pipe.folder.tokenizer, "pad_token", None) is None)
        good: dict[_Text, int] = {}
        for each in taken:
            try:
                good[each] = pipe.feed(each.text, {})["input_ids"].shape[1]
            except Exception as error:
                each.give(None, error)
        try:
            if good:
                self._give(pipe, good)
        except TransportError as error:
            for each in good:
                each.give(None, error)
        except Exception as error:
            for each, tokens in good.items():
                self._again(pipe, each, tokens, error if len(good) == 1 else None)

    def _again(self, pipe: Pipeline, each: _Text, tokens: int, error: Exception | None) -> None:
        try:
            if error is not None:
                raise error
            self._give(pipe, {each: tokens})
        except Exception as failed:
            each.give(None, failed)

    def _give(self, pipe: Pipeline, tokens: dict[_Text, int]) -> None:
        witness, receipts = Witness(), Receipts(self._trio.receipts)
        if isinstance(pipe.runner, SecureRunner):
            pipe.runner.dealt, pipe.runner.signed = witness, receipts
        texts = [each.text for each in tokens]
        found: list[Any] = pipe(texts, batch_size=len(texts), return_tensors=True)
        usage, count = pipe.usage, len(texts)
        callers: set[object] = set()
        for (each, length), features in zip(tokens.items(), found, strict=True):
            # bytes are divided among the texts; the run itself counts once for each caller
            own = replace(usage) if each.caller not in callers else Usage()
            callers.add(each.caller)
            account = Account(prompt_tokens=length, cluster=self._trio.figures())
            account.sessions = receipts.sessions
            account.usage = replace(own, bytes_sent=usage.bytes_sent // count)
            account.witness = Witness([size // count for size in witness.bytes_received], witness.first_bytes)
            each.give((features, account))
