"""Every error that this package raises, in one tree; each carries a hint that says what to do.

OnnxpumaError
├── ModelError                 the ONNX file cannot be read, is damaged or is not valid
│   └── UnsupportedModelError  it is valid, but some of its nodes have no secure kernel (all are named)
├── InputError                 a name, shape, dtype or value from the caller does not fit the model
│   └── TooLongError           a text has more tokens than the model has positions
├── PlanError                  the model cannot be planned for these shapes, or two sides hold different plans
├── ConfigError                cluster.toml, a key file or a command-line option is wrong
├── BuildError                 something the installation needs is missing
├── UnreliableError            a value left its range during a run: the result may be anything
├── AccuracyError              a result on shares is further from the one in the clear than is allowed
├── BudgetError                the model's owner allows this client no more answers
├── CanaryError                an answer to a canary is wrong: a server departed from the program
├── ReceiptError               a receipt is missing, forged, damaged or at odds with itself
├── ProtocolError              a protocol was called outside its stated conditions
└── TransportError             bytes did not arrive whole, in time, in step, or from the right sender
    ├── AuthenticationError    a public key is not on the list
    ├── LockstepError          two parties are at different steps of the plan
    ├── PeerLostError          a party is dead, stuck or unreachable
    ├── RequestTimeoutError    no answer within the time allowed
    ├── BusyError              too many requests or connections are at a server already
    ├── StoppingError          a server is about to stop, and has not begun the request
    └── RemoteError            another party reported an error of its own

An error's text may quote another machine (a version, a label, the name of a node), which can write anything
there. A terminal obeys control characters, and characters that change the direction of writing make it show
a text that is not there; in a log, a line break forges the next entry. Such text is therefore made harmless
before anybody reads it.
"""

from __future__ import annotations

import unicodedata

LONGEST_TEXT = 4000

_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"), " ")
_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, format (direction, zero width), lone surrogates


def plain_text(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` as one line of visible characters, at most `longest` of them.

    Line breaks and tabs become spaces; invisible characters become U+FFFD.
    """
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    if text.isascii() and text.isprintable():
        return text
    line = text.translate(_SPACES)
    return "".join("\ufffd" if unicodedata.category(char) in _UNSEEN else char for char in line)


def plain_lines(text: str) -> str:
    """Every line of `text` made plain as by `plain_text`, at its full length."""
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


EXPORT_AGAIN = "the file is damaged or incomplete: copy or export it again"  # the hint of many ModelErrors


class UnsupportedModelError(ModelError):
    """The model is valid ONNX, but some nodes have no secure kernel; the message names every one of them."""


class InputError(OnnxpumaError):
    """A name, shape, dtype or value from the caller does not fit the model."""

    exit_status = 4


class TooLongError(InputError):
    """A text has more tokens than the model has positions."""


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
    """A value left the range in which its operator is correct during a run: the result may be anything."""

    exit_status = 9

    def __init__(self, message: str = "", hint: str = "", outcome: object = None) -> None:
        super().__init__(message or _UNRELIABLE, hint or _UNRELIABLE_HINT)
        # The unreliable result, for those who want to look at it; None if another machine reported the error.
        self.outcome = outcome


_UNRELIABLE = "a value left its range while the model ran: the result is not reliable"
_UNRELIABLE_HINT = (
    "the model's owner can share it calibrated with samples like this input (`share --calibrate`);"
    " there, `onnxpuma validate --per-node` shows which node it is"
)


class BudgetError(OnnxpumaError):
    """The model's owner allows this client fewer answers than it asks for."""

    exit_status = 10


class ReceiptError(OnnxpumaError):
    """A receipt of a run is missing, forged, damaged or at odds with itself."""

    exit_status = 11


class CanaryError(OnnxpumaError):
    """The answer to a canary is wrong, or its run failed: a server departed from the program."""

    exit_status = 12

    def __init__(self, message: str, hint: str = "", outcome: object = None) -> None:
        super().__init__(message, hint)
        # Of the request beside it, which had its answer by then; as doubtful as any from these servers.
        self.outcome = outcome


class ProtocolError(OnnxpumaError):
    """A protocol was called outside its stated conditions."""


class TransportError(OnnxpumaError):
    """Bytes did not arrive whole, in time, in step, or from the right sender."""

    exit_status = 7


class AuthenticationError(TransportError):
    """A public key is not on the list of keys that may connect."""


class LockstepError(TransportError):
    """Two parties are at different steps of the plan."""


class PeerLostError(TransportError):
    """A party is dead, stuck or unreachable."""


class RequestTimeoutError(TransportError):
    """No answer within the time allowed."""


class BusyError(TransportError):
    """Too many requests or connections are at a server already.

    retry_after: seconds after which another try may succeed; None where that is not known.
    """

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[BusyError], tuple[str, str, float | None]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.retry_after)


class StoppingError(TransportError):
    """A server is about to stop, and has not begun the request."""


class RemoteError(TransportError):
    """Another party reported an error of its own."""
