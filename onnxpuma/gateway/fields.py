"""The requests that the gateway reads, field by field, and those of OpenAI's fields that it cannot honour.

A field that has no effect on the answer is ignored. One that asks for something that cannot be had is
refused, with the reason, unless its value asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from onnxpuma.gateway.refusal import Refused, invalid

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_INPUTS = 2048

_IGNORED = frozenset(
    (
        *("user", "metadata", "service_tier", "parallel_tool_calls"),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    )
)

_LOGITS = "the servers open one token and keep the logits as shares"
_PARSED = "the servers choose each token without seeing the text, so none can hold it to a grammar"
_WORDS_ALONE = "the model takes and writes text alone"
_STORED = "the gateway stores nothing"

# Field -> the values that ask for nothing, and why others are refused. None always asks for nothing.
_Reasons = Mapping[str, tuple[tuple[Any, ...], str]]
_WRITING: _Reasons = {
    "best_of": ((1,), _LOGITS),
    "suffix": (("",), "the model continues a text, and fills no gap"),
    "use_beam_search": ((False,), "the search on shares has no beams"),
    "length_penalty": ((1, 1.0), "the search on shares has no beams"),
}
_CHAT: _Reasons = {
    **_WRITING,
    "logprobs": ((False,), _LOGITS),
    "top_logprobs": ((0,), _LOGITS),
    "response_format": (({"type": "text"},), _PARSED),
    "tools": (([],), _PARSED),
    "tool_choice": (("none", "auto"), _PARSED),
    "functions": (([],), _PARSED),
    "function_call": (("none", "auto"), _PARSED),
    "audio": ((), _WORDS_ALONE),
    "modalities": ((["text"],), _WORDS_ALONE),
    "prediction": ((), "OpenAI's form of drafts: use `draft` instead"),
    "web_search_options": ((), "the gateway asks no one but the three servers"),
    "reasoning_effort": ((), "the model has no such control: say it in the messages"),
    "verbosity": ((), "the model has no such control: say it in the messages"),
    "store": ((False,), _STORED),
}
_COMPLETION: _Reasons = {**_WRITING, "logprobs": ((), _LOGITS)}
_SPEECH: _Reasons = {
    "prompt": (("",), "the recording alone is heard"),
    "timestamp_granularities": (([],), "the model's timestamps are not computed"),
    "include": (([],), _LOGITS),
    "chunking_strategy": (("auto",), "a recording is cut into pieces of the model's length"),
    "known_speaker_names": (([],), "speakers are not told apart"),
    "known_speaker_references": (([],), "speakers are not told apart"),
}


class Asked(BaseModel):
    """A request for a model."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    refused: ClassVar[_Reasons] = {}

    model: str
    show_shares: bool | None = None  # the answer tells the first bytes that each server received


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # of lengths, against eavesdroppers: there is no network to fear


class Writing(Asked):
    """What steers a text, the same for chats and completions."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = None  # of a greedy answer alone, which draws nothing
    fixed_length: bool | None = None
    draft: Literal["none", "prompt"] | None = None
    draft_tokens: int | None = Field(None, ge=1)

    @property
    def most(self) -> int | None:
        """The most tokens to write."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which a text ends."""
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in found if stop)


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: str
    text: str = ""


class Message(BaseModel):
    """A message of a chat. Its name and the like are not part of the prompt."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[Part] | None = None


class ChatRequest(Writing):
    refused = _CHAT

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def most(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def chat(self) -> list[dict[str, str]]:
        """The messages as a chat template takes them. Raises Refused for anything but text."""
        return [{"role": _role(i, m), "content": _content(i, m)} for i, m in enumerate(self.messages)]


class CompletionRequest(Writing):
    refused = _COMPLETION

    prompt: str | Annotated[list[Any], Field(min_length=1)]
    echo: bool | None = None

    def prompts(self) -> list[str]:
        return texts("prompt", self.prompt)


class EmbeddingRequest(Asked):
    input: str | Annotated[list[Any], Field(min_length=1, max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)

    def inputs(self) -> list[str]:
        return texts("input", self.input)


class SpeechRequest(Asked):
    """The fields beside the file. They come from a form, as texts."""

    model_config = ConfigDict(extra="forbid", strict=False, protected_namespaces=())
    refused = _SPEECH

    language: str | None = None
    response_format: str = "json"
    temperature: float | None = Field(None, ge=0, le=1)
    stream: bool | None = None


AskedT = TypeVar("AskedT", bound=Asked)


def read(kind: type[AskedT], body: bytes) -> AskedT:
    """The request in this JSON. Raises Refused for anything that is wrong with it."""
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Refused("the request is not JSON", "send one JSON object") from None
    if not isinstance(found, dict):
        raise Refused("the request is not a JSON object", 'send one, like {"model": ...}')
    return checked(kind, found)


def checked(kind: type[AskedT], found: Mapping[str, Any]) -> AskedT:
    """The request with these fields. Raises Refused for one that asks for what cannot be had."""
    left = {}
    for name, value in found.items():
        if name in kind.refused:
            neutral, reason = kind.refused[name]
            if value is not None and not any(value == each for each in neutral):
                raise Refused(
                    f"'{name}' is not supported: {reason}",
                    f"omit {name}",
                    param=name,
                    code="unsupported_parameter",
                )
        elif name not in _IGNORED:
            left[name] = value
    try:
        return kind.model_validate(left)
    except ValidationError as error:
        raise invalid(error) from None


def texts(param: str, given: str | list[Any]) -> list[str]:
    """A list of texts. Raises Refused for ids, which belong to another model's tokenizer."""
    found = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in found):
        raise Refused(
            f"'{param}' has token ids in place of texts",
            "send texts: the gateway has the model's own tokenizer"
            " (langchain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
            param=param,
        )
    return found


_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def _role(place: int, message: Message) -> str:
    if message.role not in _ROLES:
        raise Refused(
            f"the role '{message.role}' is not supported: {_PARSED}",
            f"use {', '.join(_ROLES)}",
            param=f"messages.{place}.role",
        )
    return _ROLES[message.role]


def _content(place: int, message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = message.content or []
    other = next((part.type for part in parts if part.type != "text"), None)
    if other is not None or not parts:
        what = "no content" if other is None else f"a part of type '{other}': {_WORDS_ALONE}"
        raise Refused(
            f"the message has {what}",
            "send its content as a text, or as parts of type 'text'",
            param=f"messages.{place}.content",
            code="unsupported_content",
        )
    return "".join(part.text for part in parts)
