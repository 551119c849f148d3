"""Every error this package raises, in one tree, each with a hint that says what to do.

OnnxpumaError
├── ModelError                 the ONNX file cannot be read, is damaged or is not valid
│   └── UnsupportedModelError  it is valid, but some nodes have no secure kernel (the message names all)
├── InputError                 a name, shape, dtype or value from the caller does not fit the model
├── PlanError                  the model cannot be planned for these shapes, or two sides hold different plans
├── ConfigError                cluster.toml, a key file or a command-line option is wrong
├── BuildError                 the installation lacks something
├── UnreliableError            a value left its range during a run: the result may be anything
├── AccuracyError              a result on shares differs from the one in the clear by more than is allowed
├── ProtocolError              a caller violated the stated conditions of a secure protocol
└── TransportError             bytes did not arrive whole, in time, in step, or from the right party
    ├── AuthenticationError    a public key is not on the list
    ├── LockstepError          two parties are at different steps of the plan
    ├── PeerLostError          a party is dead, stuck or unreachable
    ├── RequestTimeoutError    no answer in the time allowed
    ├── BusyError              too many requests already wait at a server
    └── RemoteError            another party reported an error of its own

An error's text may quote another machine (a version, a label, a node's name), and that machine can send any
text. A control character is a command to a terminal, one that reverses the direction of writing disguises
the text, and the end of a line forges the next entry of a log. So `plain_text` makes such text harmless
before anybody reads it.
"""

from __future__ import annotations

import unicodedata

LONGEST_TEXT = 4000

_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"), " ")
_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, format (direction, zero width), lone surrogates


def plain_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` as one line of visible characters, cut after `longest` of them.

    Ends of lines and tabs become spaces; an invisible character becomes U+FFFD.
    """
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    if text.isascii() and text.isprintable():
        return text
    line = text.translate(_SPACES)
    return "".join("\ufffd" if unicodedata.category(char) in _UNSEEN else char for char in line)


def plain_lines(text: str) -> str:
    """The same line by line, and not cut."""
    return "\n".join(plain_text(line, len(line) + 1) for line in text.split("\n"))


class OnnxpumaError(Exception):
    """Base of all errors of this package: `message` says what is wrong, `hint` what to do about it.

    Neither contains a character that a terminal would obey.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = plain_lines(message), plain_lines(hint)
        super().__init__(f"{message}\n  hint: {hint}" if hint else message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[OnnxpumaError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class ModelError(OnnxpumaError):
    """The ONNX file cannot be read, is damaged or is not valid."""

    exit_status = 3


class UnsupportedModelError(ModelError):
    """The model is valid ONNX, but some nodes have no secure kernel; the message names all of them."""


class InputError(OnnxpumaError):
    """A name, shape, dtype or value from the caller does not fit the model."""

    exit_status = 4


class PlanError(OnnxpumaError):
    """The model cannot be planned for these shapes, or two sides hold different plans."""

    exit_status = 5


class ConfigError(OnnxpumaError):
    """cluster.toml, a key file or a command-line option is wrong."""

    exit_status = 6


class BuildError(OnnxpumaError):
    """The installation lacks something."""

    exit_status = 6


class AccuracyError(OnnxpumaError):
    """A result on shares differs from the one in the clear by more than is allowed."""

    exit_status = 8


class UnreliableError(OnnxpumaError):
    """A value left the range in which its operator is accurate: the result may be anything.

    outcome: the result nevertheless, for inspection; None if another machine reported the error.
    """

    exit_status = 9

    def __init__(self, message: str = "", hint: str = "", outcome: object = None) -> None:
        super().__init__(message or _UNRELIABLE, hint or _UNRELIABLE_HINT)
        self.outcome = outcome


_UNRELIABLE = "a value left its range while the model ran: the result is not reliable"
_UNRELIABLE_HINT = (
    "the model's owner can calibrate it with samples like this input (`share --calibrate`), and find the node"
    " with `onnxpuma validate --per-node`"
)


class ProtocolError(OnnxpumaError):
    """A caller violated the stated conditions of a secure protocol."""


class TransportError(OnnxpumaError):
    """Bytes did not arrive whole, in time, in step, or from the right party."""

    exit_status = 7


class AuthenticationError(TransportError):
    """A public key is not on the list of keys that may connect."""


class LockstepError(TransportError):
    """Two parties are at different steps of the plan."""


class PeerLostError(TransportError):
    """A party is dead, stuck or unreachable."""


class RequestTimeoutError(TransportError):
    """No answer in the time allowed."""


class BusyError(TransportError):
    """Too many requests already wait at a server."""


class RemoteError(TransportError):
    """Another party reported an error of its own."""
