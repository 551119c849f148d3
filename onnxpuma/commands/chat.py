"""chat: a conversation with a model whose weights, questions and answers no server sees."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxpuma.commands import options, screen
from onnxpuma.commands.generate import Telling, writing
from onnxpuma.errors import ConfigError, InputError, UnreliableError

if TYPE_CHECKING:
    from onnxpuma.tasks.writer import Writer

_HELP = "/reset forgets the conversation, /system TEXT replaces the instructions, /quit ends (or Ctrl-D)"


def chat(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]", help="The exported model (not with --cluster).", show_default=False
        ),
    ] = None,
    cluster: options.ServersElsewhere = None,
    key: options.ServersKey = None,
    tokenizer: options.Tokenizer = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="Instructions before the conversation.")
    ] = None,
    stop: Annotated[
        list[str],
        typer.Option("--stop", metavar="TEXT", help="Ends an answer where it occurs. May be repeated."),
    ] = [],  # noqa: B006  (typer makes a new one)
    most: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="The longest answer, in tokens.")
    ] = None,
    plain: options.Plain = False,
    threads: options.Threads = 1,
    memory: options.Memory = None,
    public_input: options.ShownInput = [],  # noqa: B006
    model: options.ModelName = "",
) -> None:
    """Talk with a model whose weights, questions and answers no server sees.

    A line is a message. /reset forgets the conversation, /system TEXT replaces the instructions, /quit ends.
    The conversation is kept in memory alone; its length is known to the servers.
    """
    if (folder is None) == (cluster is None):
        raise ConfigError("name either a model or --cluster", "onnxpuma chat smollm2")
    if cluster is not None and (plain or tokenizer is None):
        raise ConfigError(
            "--cluster needs --tokenizer, and no --plain",
            "onnxpuma chat --cluster cluster.toml --key client.secret --tokenizer smollm2",
        )
    if "" in stop:
        raise ConfigError("--stop is empty", "name a text that ends an answer, or omit it")
    allowed = options.read_memory(memory)
    with writing(
        folder, tokenizer, cluster, key, "text-generation", plain, threads, allowed, public_input, model
    ) as pipe:
        if not getattr(pipe.folder.tokenizer, "chat_template", None):
            raise ConfigError(
                "the tokenizer of this model has no chat template",
                "use onnxpuma generate, which continues a text",
            )
        _Conversation(pipe, system, stop, {} if most is None else {"max_new_tokens": most}).hold()


class _Conversation:
    """Reads messages and prints answers until the end of the input."""

    def __init__(self, pipe: Writer, system: str | None, stop: Sequence[str], chosen: dict[str, Any]) -> None:
        self._pipe, self._system, self._stop, self._chosen = pipe, system, stop, chosen
        self._messages: list[dict[str, str]] = []

    def hold(self) -> None:
        if sys.stdin.isatty():
            screen.note(_HELP)
        while (line := _asked()) is not None:
            command, _, rest = line.strip().partition(" ")
            if command == "/quit":
                return
            if command == "/reset":
                self._messages.clear()
            elif command == "/system":
                self._system = rest.strip() or None
            elif command.startswith("/"):
                screen.note(_HELP)
            elif command:
                self._answer(line.strip())

    def _answer(self, message: str) -> None:
        """Print the answer to a message, and remember both; a message that fails is forgotten."""
        first = [{"role": "system", "content": self._system}] if self._system else []
        asked = [*self._messages, {"role": "user", "content": message}]
        told = Telling(self._pipe, silent=False, stop=self._stop)
        try:
            told.tell([*first, *asked], self._chosen)
        except KeyboardInterrupt:  # what was told of the answer stands
            pass
        except (InputError, UnreliableError) as error:
            told.end()
            screen.say_error(error)
            return
        told.end()
        self._messages = [*asked, {"role": "assistant", "content": told.text}]


def _asked() -> str | None:
    """The next line; None at the end of the input."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line or None
    with suppress(ImportError):
        import readline  # noqa: F401  (makes `input` remember lines, in memory alone)
    try:
        return input("> ")
    except EOFError:
        screen.tell("\n")
        return None
