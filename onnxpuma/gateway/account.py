"""What an answer has cost, and what each server saw of it: the fields `usage` and `onnxpuma`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxpuma.plan.plan import Plan
from onnxpuma.tasks.port import Usage
from onnxpuma.transport.link import Buffer, as_bytes

SHOWN_BYTES = 24


@dataclass
class Witness:
    """Records what a client sends to each server: how many bytes, and the first ones of the first run.

    A server's part of the shares is uniformly random: it tells nothing of the input but its length.
    """

    bytes_received: list[int] = field(default_factory=lambda: [0, 0, 0])
    first_bytes: list[bytes] = field(default_factory=list)

    def __call__(self, plan: Plan, private: Sequence[Sequence[Buffer]]) -> None:
        sent = [[as_bytes(buffer) for buffer in buffers] for buffers in private]
        if not self.first_bytes:
            self.first_bytes = [
                b"".join(bytes(b[:SHOWN_BYTES]) for b in buffers)[:SHOWN_BYTES] for buffers in sent
            ]
        for party, buffers in enumerate(sent):
            self.bytes_received[party] += sum(len(buffer) for buffer in buffers)


@dataclass
class Account:
    """The cost of an answer, or of a part of it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # of the wait for it
    first_token_seconds: float | None = None
    usage: Usage = field(default_factory=Usage)
    cluster: dict[str, Any] = field(default_factory=dict)  # who answered
    witness: Witness = field(default_factory=Witness)
    sessions: list[str] = field(default_factory=list)  # of the runs that servers signed, hex

    def openai_usage(self) -> dict[str, int]:
        """The object `usage` of OpenAI's answers."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def figures(self, shares: bool = False) -> dict[str, Any]:
        """The object `onnxpuma` of an answer. shares: also the first bytes that each server received."""
        made: dict[str, Any] = {
            "bytes": self.usage.bytes_sent,  # between the servers
            "rounds": self.usage.rounds,
            "requests": self.usage.requests,
            "seconds": round(self.seconds, 6),
            "first_token_seconds": self.first_token_seconds,
            "servers_seconds": round(self.usage.seconds, 6),
            **self.cluster,
        }
        if self.sessions:
            made["sessions"] = self.sessions
        if shares:
            made["shares"] = [
                {"server": party, "bytes": size, "first_bytes": first.hex()}
                for party, (size, first) in enumerate(
                    zip(self.witness.bytes_received, self.witness.first_bytes, strict=False)
                )
            ]
        return made


def total(accounts: Sequence[Account], shared_prompt: bool = False) -> Account:
    """The sum of several parts that ran side by side. shared_prompt: they answer one prompt, counted once."""
    prompts = [account.prompt_tokens for account in accounts]
    witness = Witness(
        [sum(sizes) for sizes in zip(*(a.witness.bytes_received for a in accounts), strict=True)],
        accounts[0].witness.first_bytes,
    )
    usage = Usage(*(sum(getattr(a.usage, name) for a in accounts) for name in Usage.__dataclass_fields__))
    return Account(
        prompts[0] if shared_prompt else sum(prompts),
        sum(account.completion_tokens for account in accounts),
        max(account.seconds for account in accounts),
        min((a.first_token_seconds for a in accounts if a.first_token_seconds is not None), default=None),
        usage,
        accounts[0].cluster,
        witness,
        list(dict.fromkeys(session for account in accounts for session in account.sessions)),
    )
