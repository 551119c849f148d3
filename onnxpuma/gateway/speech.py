"""POST /v1/audio/transcriptions and /v1/audio/translations: what is said in a recording.

The recording stays in memory: nothing of it is written to this machine's disk.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import PlainTextResponse, Response

from onnxpuma.gateway.account import Account
from onnxpuma.gateway.exchange import EventStream, Exchange, answered, sessions_header
from onnxpuma.gateway.fields import SpeechRequest, checked
from onnxpuma.gateway.guard import MOST_BYTES
from onnxpuma.gateway.refusal import Refused
from onnxpuma.gateway.writing import Ended, Event, Task, Told, written

_TIMED = ("verbose_json", "srt", "vtt", "diarized_json")


class _InMemory(MultiPartParser):
    spool_max_size = MOST_BYTES


async def transcriptions(exchange: Exchange) -> Response:
    """The words of a recording."""
    return await _heard(exchange, "transcribe")


async def translations(exchange: Exchange) -> Response:
    """The same in English."""
    return await _heard(exchange, "translate")


async def _heard(exchange: Exchange, task: str) -> Response:
    asked, recording = await _form(exchange)
    options: dict[str, Any] = {} if task == "transcribe" else {"task": task}
    if asked.language:
        options["language"] = asked.language
    if asked.temperature:
        options |= {"do_sample": True, "temperature": asked.temperature}
    trio = exchange.models.trio(asked.model)
    sound = _sound(recording)
    work = Task(sound, options, ("automatic-speech-recognition",), "recordings", (), exchange.caller)
    events = written(trio, work)
    seconds = len(sound["array"]) / sound["sampling_rate"]
    show = bool(asked.show_shares)
    if asked.stream:
        first = await exchange.present(anext(events))
        return EventStream(_chunks(first, events, seconds, show), done=False)
    text, account = await exchange.present(_whole(events))
    if asked.response_format == "text":
        figures = account.figures()
        told = {
            f"onnxpuma-{name.replace('_', '-')}": figures[name] for name in ("bytes", "rounds", "seconds")
        }
        headers = {name: str(value) for name, value in told.items()} | sessions_header(figures)
        return PlainTextResponse(f"{text}\n", headers=headers)
    return answered({"text": text, "usage": _usage(seconds), "onnxpuma": account.figures(show)})


async def _whole(events: AsyncGenerator[Event]) -> tuple[str, Account]:
    text, account = "", Account()
    async for event in events:
        if isinstance(event, Told):
            text += event.text
        else:
            account = event.account
    return text, account


async def _chunks(
    first: Event, later: AsyncGenerator[Event], seconds: float, show: bool
) -> AsyncGenerator[dict[str, Any]]:
    text, pending = "", first
    try:
        while not isinstance(pending, Ended):
            text += pending.text
            yield {"type": "transcript.text.delta", "delta": pending.text}
            pending = await anext(later)
        figures = pending.account.figures(show)
        yield {
            "type": "transcript.text.done",
            "text": text,
            "usage": _usage(seconds),
            "onnxpuma": figures,
        }
    finally:
        await later.aclose()


def _usage(seconds: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(seconds)}


async def _form(exchange: Exchange) -> tuple[SpeechRequest, bytes]:
    """The fields and the file. Raises Refused for a body that is no such form."""
    request = exchange.request
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused(
            "the body is no form", "send multipart/form-data with the fields file and model", status=415
        )
    try:
        form: FormData = await _InMemory(
            request.headers, request.stream(), max_files=1, max_fields=32
        ).parse()
    except (MultiPartException, FormParserError, KeyError):
        raise Refused("the form cannot be read", "send multipart/form-data, as OpenAI's clients do") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Refused("the form has no file", "add the recording as the field 'file'", param="file")
        recording = await file.read()
    finally:
        await form.close()
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name.endswith("[]"):
            fields.setdefault(name.removesuffix("[]"), []).append(value)
        elif name != "file":
            fields[name] = value
    asked = checked(SpeechRequest, fields)
    if asked.response_format in _TIMED:
        raise Refused(
            f"response_format '{asked.response_format}' needs times, and the model's are not computed",
            "use json or text",
            param="response_format",
            code="unsupported_parameter",
        )
    if asked.response_format not in ("json", "text"):
        raise Refused(
            f"there is no response_format '{asked.response_format}'",
            "use json or text",
            param="response_format",
        )
    return asked, recording


def _sound(recording: bytes) -> dict[str, Any]:
    """The samples of a .wav, .flac or .ogg file. Raises Refused for any other."""
    try:
        import soundfile

        array, rate = soundfile.read(io.BytesIO(recording), dtype="float32")
    except ImportError:
        raise Refused(
            "the gateway has no library to read recordings",
            "its operator installs soundfile: pip install 'onnxpuma[tasks]'",
            status=501,
        ) from None
    except (RuntimeError, OSError, TypeError):
        raise Refused(
            "the file is no recording that can be read here", "send a .wav or .flac file", param="file"
        ) from None
    return {"array": array, "sampling_rate": int(rate)}
