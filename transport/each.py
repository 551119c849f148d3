"""Asking every server by itself: each answers or not, whatever the others do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import zmq
from google.protobuf.message import Message

from onnxpuma.errors import OnnxpumaError, TransportError
from onnxpuma.transport import wire, wire_pb2
from onnxpuma.transport.client_line import ClientLine
from onnxpuma.transport.failure import error_of

Answered: TypeAlias = tuple[wire_pb2.ServerMessage, list[memoryview]]
LOOK_SECONDS = 0.1  # between two looks at the connections


def each(
    lines: Sequence[ClientLine], body: Message, tag: bytes, seconds: float, wait: Callable[[float], None]
) -> list[Answered | OnnxpumaError]:
    """Each server's answer to `body`, a message without buffers, or the error that explains why it gave none.

    tag: that the answers carry. wait: sleeps until something happens, at most for so many seconds.
    """
    deadline = time.monotonic() + seconds
    answers: dict[int, Answered | OnnxpumaError] = {}
    asked: set[int] = set()
    while len(answers) < len(lines) and (remaining := deadline - time.monotonic()) > 0:
        for line in lines:
            if line.number not in asked and line.connected():
                asked.add(line.number)
                line.push([wire.encode_client(body, [])])
            try:
                line.check_trust()
                while (message := read_one(line)) is not None:
                    if message[0].request == tag:
                        failed = message[0].WhichOneof("body") == "failure"
                        error = error_of(message[0].failure, line.number) if failed else None
                        answers[line.number] = error or message
            except TransportError as error:
                answers[line.number] = error
        if len(answers) < len(lines):
            wait(min(LOOK_SECONDS, remaining))
    return [answers.get(line.number, line.silent(seconds)) for line in lines]


def read_one(line: ClientLine) -> Answered | None:
    """A server's next answer with its buffers; None if there is none. TransportError when it is damaged."""
    try:
        frames = [f.buffer for f in line.out.socket.recv_multipart(zmq.NOBLOCK, copy=False)]
    except zmq.Again:
        return None
    message = wire.decode_server(frames[0])
    return message, wire.join(message.sizes, frames[1:])
