"""Text from another machine stays plain text: no command to a terminal, no second line in a log."""

from __future__ import annotations

import unicodedata

import pytest

from onnxpuma.commands import screen
from onnxpuma.errors import (
    LONGEST_TEXT,
    BusyError,
    ModelError,
    OnnxpumaError,
    PlanError,
    RemoteError,
    plain_lines,
    plain_text,
)
from onnxpuma.roles.server.identity import Identity
from onnxpuma.transport import wire, wire_pb2
from onnxpuma.transport.failure import error_of, failure_of, told
from onnxpuma.transport.inbox import Arrival, Inbox
from onnxpuma.transport.link import Tag

HOSTILE = "1.0\x1b[2J\x1b]0;title\x07\r\n12:00:00 party 0 is ready\x9b31m\u202etxt.exe\u200b\x00\ud800"
SESSION = bytes(16)


def harmless(text: str) -> bool:
    return not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text)


def test_plain_text_is_one_line_of_what_can_be_seen() -> None:
    text = plain_text(HOSTILE)
    assert harmless(text)
    assert text.startswith("1.0\ufffd[2J")
    assert plain_text("un modèle, 模型 \N{PILE OF POO}") == "un modèle, 模型 \N{PILE OF POO}"
    assert plain_text("a\tb\nc\u2028d") == "a b c d"
    assert len(plain_text("x" * 10**6)) == LONGEST_TEXT
    assert plain_lines("a\x1b\nb\r") == "a\ufffd\nb "


@pytest.mark.parametrize("kind", [BusyError, ModelError, RemoteError])
def test_an_error_holds_nothing_that_a_terminal_obeys(kind: type[OnnxpumaError]) -> None:
    error = kind(HOSTILE, HOSTILE)
    assert harmless(str(error).replace("\n", ""))
    assert kind("two\nlines").message == "two\nlines"


def test_a_failure_from_afar_is_one_line_and_no_longer_than_can_be_read() -> None:
    error = error_of(wire_pb2.Failure(error="PlanError", message=HOSTILE[:-1], hint=HOSTILE[:-1] * 1000), 1)
    assert type(error) is PlanError
    assert harmless(error.message)
    assert harmless(error.hint)
    assert len(error.hint) <= LONGEST_TEXT


@pytest.mark.parametrize("name", ["__class__", "annotations", "unicodedata", "plain_text", "\x1b[31m", ""])
def test_a_class_that_is_none_of_ours_is_a_remote_error(name: str) -> None:
    assert type(error_of(wire_pb2.Failure(error=name, message="m"), 1)) is RemoteError


@pytest.mark.parametrize(
    "body",
    [
        wire_pb2.Status(version=HOSTILE[:-1], state=HOSTILE[:-1], detail=HOSTILE[:-1]),
        wire_pb2.Progress(label=HOSTILE[:-1]),
    ],
    ids=["status", "progress"],
)
def test_what_a_server_tells_a_client_is_plain(body: wire_pb2.Status | wire_pb2.Progress) -> None:
    message = wire.decode_server(wire.encode_server(SESSION, body, []))
    for _, value in getattr(message, str(message.WhichOneof("body"))).ListFields():
        assert harmless(value)
        assert "party 0 is ready" in value


def test_what_a_server_tells_a_server_is_plain() -> None:
    hello = wire.decode_peer(wire.encode_peer(wire_pb2.Hello(version=HOSTILE[:-1], party=1))).hello
    assert harmless(hello.version)
    difference = Identity(0, "0.1.0+0", {}).difference(1, hello)
    assert difference is not None
    assert harmless(difference.message)
    abort = wire_pb2.Abort(session=SESSION, message=HOSTILE[:-1])
    assert harmless(wire.decode_peer(wire.encode_peer(abort)).abort.message)


def test_a_label_that_is_not_the_one_expected_is_shown_in_plain_text() -> None:
    inbox = Inbox(0)
    inbox.enter(SESSION)
    inbox.put(1, Arrival(Tag(SESSION, 1, 1, HOSTILE[:-1]), [], 0))
    with pytest.raises(OnnxpumaError) as raised:
        inbox.take(1, Tag(SESSION, 1, 1, "MatMul"))
    assert harmless(raised.value.message)
    assert "txt.exe" in raised.value.message


def test_names_on_the_screen_are_plain() -> None:
    assert harmless(screen.plain(HOSTILE).replace("\n", ""))
    assert screen.plain("[bold]") == "\\[bold]"


def test_too_little_memory_is_said_in_words() -> None:
    for error in (MemoryError(), OSError(12, "Cannot allocate memory")):
        failure = failure_of(error)
        assert failure.error == "PlanError"
        assert "not enough memory" in failure.message
        assert "smaller batch" in failure.hint
    assert told(ValueError("a secret")).message == "internal error (ValueError)"
