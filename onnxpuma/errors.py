"""Every error this package raises, in one tree, each with a hint that says what to do.

OnnxpumaError
├── ModelError                 the ONNX file cannot be read, is damaged or is not valid
│   └── UnsupportedModelError  it is valid, but some of its nodes have no secure kernel (all named at once)
├── InputError                 a name, shape, dtype or value the caller gave does not fit the model
├── PlanError                  the model cannot be planned for these shapes, or two sides hold different plans
├── ConfigError                cluster.toml, a key file or a command-line option is wrong
├── BuildError                 something the installation needs is missing
├── UnreliableError            a value of a run left its range: its result may be anything
├── AccuracyError              a result on shares is further from the one in the clear than is allowed
├── ProtocolError              a secure protocol was asked for something outside its stated conditions
└── TransportError             bytes did not arrive whole, in time, in step, or from whom they should
    ├── AuthenticationError    a public key is not on the list
    ├── LockstepError          two parties are at different steps of the plan
    ├── PeerLostError          a party is dead, stuck or unreachable
    ├── RequestTimeoutError    no answer in the time allowed
    ├── BusyError              too many requests wait at a server already
    └── RemoteError            another party reported an error of its own

Their text may quote another machine (a version, a label, a name of a node), which writes there what it
wants. On a terminal a control character is a command, and one that turns the direction of writing shows
another text than is there; in a log the end of a line forges the next entry. So such text is made
harmless before anybody reads it.
"""

from __future__ import annotations

import unicodedata

LONGEST_TEXT = 4000

_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"), " ")
_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, format (direction, zero width), lone surrogates


def plain_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` in one line of characters that can be seen, cut after `longest` of them.

    Ends of lines and tabs become spaces, what is not seen becomes U+FFFD.
    """
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    if text.isascii() and text.isprintable():
        return text
    line = text.translate(_SPACES)
    return "".join("\ufffd" if unicodedata.category(char) in _UNSEEN else char for char in line)


def plain_lines(text: str) -> str:
    """`text` as `plain_text` makes it, but in the lines that it has and whole."""
    return "\n".join(plain_text(line, len(line) + 1) for line in text.split("\n"))


class OnnxpumaError(Exception):
    """Base of all errors of this package: `message` says what is wrong, `hint` what to do about it.

    Neither holds a character that a terminal would obey.
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
    """The model is valid ONNX, but some nodes have no secure kernel; the message names every one of them."""


class InputError(OnnxpumaError):
    """A name, shape, dtype or value that the caller gave does not fit the model."""

    exit_status = 4


class PlanError(OnnxpumaError):
    """The model cannot be planned for these shapes, or two sides hold different plans."""

    exit_status = 5


class ConfigError(OnnxpumaError):
    """cluster.toml, a key file or a command-line option is wrong."""

    exit_status = 6


class BuildError(OnnxpumaError):
    """Something the installation needs is missing."""

    exit_status = 6


class AccuracyError(OnnxpumaError):
    """A result on shares is further from the one in the clear than is allowed."""

    exit_status = 8


class UnreliableError(OnnxpumaError):
    """A value of a run left the range in which its operator is right: the result may be anything.

    outcome: the result nevertheless, for who wants to look at it; None where the error came from afar.
    """

    exit_status = 9

    def __init__(self, message: str = "", hint: str = "", outcome: object = None) -> None:
        super().__init__(message or _UNRELIABLE, hint or _UNRELIABLE_HINT)
        self.outcome = outcome


_UNRELIABLE = "a value left its range while the model ran: the result is not reliable"
_UNRELIABLE_HINT = (
    "its owner can share the model calibrated with samples like this input (`share --calibrate`);"
    " `onnxpuma validate --per-node` shows there which node it is"
)


class ProtocolError(OnnxpumaError):
    """A secure protocol was asked for something outside its stated conditions."""


class TransportError(OnnxpumaError):
    """Bytes did not arrive whole, in time, in step, or from whom they should."""

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
    """Too many requests wait at a server already."""


class RemoteError(TransportError):
    """Another party reported an error of its own."""
