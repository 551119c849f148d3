"""generate: three servers write a text, shown token by token as the client opens it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxpuma.commands import options, screen
from onnxpuma.commands.standing import StandingLine
from onnxpuma.errors import ConfigError

if TYPE_CHECKING:
    from onnxpuma.tasks.port import Runner
    from onnxpuma.tasks.writer import Writer


def generate(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="[FOLDER] INPUT",
            help="The exported model (not with --cluster), then a text, a recording or a picture.",
            show_default=False,
        ),
    ],
    cluster: options.ServersElsewhere = None,
    key: options.ServersKey = None,
    tokenizer: options.Tokenizer = None,
    task: Annotated[
        str | None, typer.Option("--task", help="summarization, translation, ...; detected by default.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Write at most this many tokens.")
    ] = None,
    fixed: Annotated[
        bool, typer.Option("--fixed-length", help="Compute all of them, so that the length stays secret.")
    ] = False,
    language: Annotated[
        str | None, typer.Option("--language", help="Of a recording; detected by default.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Sample, with logits divided by this.", metavar="T")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", help="Sample from the K likeliest tokens.", metavar="K")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Sample from the likeliest tokens of probability P.", metavar="P"),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option("--min-p", help="Sample from tokens P times as likely as the likeliest.", metavar="P"),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option("--repetition-penalty", help="Sample; logits of tokens that occurred / R.", metavar="R"),
    ] = None,
    presence_penalty: Annotated[
        float | None,
        typer.Option("--presence-penalty", help="Sample; less for tokens that were written.", metavar="X"),
    ] = None,
    frequency_penalty: Annotated[
        float | None,
        typer.Option("--frequency-penalty", help="The same, for each time.", metavar="X"),
    ] = None,
    draft: Annotated[
        str,
        typer.Option(
            "--draft",
            metavar="prompt|FOLDER|none",
            help="Guess the next tokens: from the text so far, or by a small public model run here.",
        ),
    ] = "none",
    draft_tokens: Annotated[
        int | None,
        typer.Option("--draft-tokens", min=1, help="How many to guess at once; 4 by default.", metavar="K"),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text, even if the model would answer it in a chat.")
    ] = False,
    plain: options.Plain = False,
    threads: options.Threads = 1,
    memory: options.Memory = None,
    model: options.ModelName = "",
    public_input: options.ShownInput = [],  # noqa: B006  (typer makes a new one)
    receipts: options.Receipts = None,
    json: options.AsJson = False,
) -> None:
    """Write a text with a model whose weights, prompt and answer no server sees."""
    if model and cluster is None:
        raise ConfigError("--model goes with --cluster alone", "name the folder of a model on this machine")
    options.check_receipts(receipts)
    folder, item = _read(given, cluster, tokenizer, plain)
    allowed = options.read_memory(memory)
    if allowed is not None and (plain or cluster is not None):
        raise ConfigError("--memory is for servers on this machine", "omit it with --cluster and --plain")
    asked: dict[str, Any] = {"max_new_tokens": most, "fixed_length": fixed or None, "language": language}
    asked["draft"] = _guesser(draft, draft_tokens, tokenizer or folder)
    steering: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
    }
    if any(value is not None for value in steering.values()):
        asked |= {"do_sample": True, **steering}
    chosen = {name: value for name, value in asked.items() if value is not None}
    with writing(folder, tokenizer, cluster, key, task, plain, threads, allowed, public_input, model) as pipe:
        told = Telling(pipe, silent=json, receipts=receipts)
        try:
            told.tell(item if raw else _said_to(pipe, item), chosen)
        finally:
            told.end()
        if receipts is not None and not told.signed:
            screen.note("no receipts were stored: nobody signed these runs")
        if json:
            screen.say_json({"text": told.text, "task": pipe.task, **told.figures()})


class Telling:
    """Prints a text as it emerges, and its cost. stop: texts at the first of which it ends, without it.
    receipts: the folder for those of its runs."""

    def __init__(
        self, pipe: Writer, silent: bool, stop: Sequence[str] = (), receipts: Path | None = None
    ) -> None:
        self._pipe, self._silent, self._stop, self._receipts = pipe, silent, stop, receipts
        self._times: list[float] = []
        self._line = StandingLine()
        self.tokens, self.text = 0, ""
        self.signed: Sequence[str] = ()  # the sessions of the runs that servers signed

    def tell(self, item: Any, chosen: dict[str, Any]) -> None:
        from onnxpuma.tasks.receipts import Receipts
        from onnxpuma.tasks.secure import SecureRunner
        from onnxpuma.tasks.stop import Until

        self._times = [time.perf_counter()]
        runner, until = self._pipe.runner, Until(self._stop)
        if isinstance(runner, SecureRunner):
            self._line = StandingLine(runner.node_names)
            self._line.begin("prompt")
            runner.watch, runner.signed = self._line.show, (taken := Receipts(self._receipts))
            self.signed = taken.sessions
        with closing(self._pipe.pieces(item, self._pipe.options(chosen))) as pieces:
            for piece in pieces:
                self._line.clear()
                if piece.token is not None:
                    self.tokens += 1
                    self._times.append(time.perf_counter())
                self._say(until.add(piece.text))
                if until.found:
                    return
                self._line.begin(f"token {self.tokens + 1}")
        self._say(until.rest)

    def _say(self, text: str) -> None:
        self.text += text
        screen.tell("" if self._silent else text)

    def end(self) -> None:
        """End the line and print the figures, also for a text that was interrupted."""
        self._line.clear()
        if self._silent or not self.tokens:
            return
        screen.tell("\n")
        taken = self.figures()
        runs = f" by {taken['requests']} runs" if taken["requests"] != self.tokens else ""
        line = f"{self.tokens} tokens{runs} in {screen.duration(taken['seconds'])}"
        rate = taken["tokens_per_second"]
        if rate:
            line += f", {f'{rate:.3g}' if rate < 100 else f'{rate:,.0f}'} a second after the first"
        if taken["bytes_sent"]:
            each = screen.size(taken["bytes_per_token"])
            line += f"; all three servers sent {each} and took {taken['rounds_per_token']:,} rounds a token"
        screen.note(line)

    def figures(self) -> dict[str, Any]:
        """The cost so far. tokens_per_second excludes the first token, which waits for the prompt."""
        usage, tokens = self._pipe.usage, max(self.tokens, 1)
        later = self._times[-1] - self._times[1] if len(self._times) > 2 else 0.0
        return {
            "tokens": self.tokens,
            "seconds": self._times[-1] - self._times[0],
            "first_token_seconds": self._times[1] - self._times[0] if self.tokens else 0.0,
            "tokens_per_second": (self.tokens - 1) / later if later else 0.0,
            "requests": usage.requests,
            "tokens_per_request": self.tokens / max(usage.requests, 1),
            "bytes_sent": usage.bytes_sent,
            "bytes_per_token": usage.bytes_sent // tokens,
            "rounds": usage.rounds,
            "rounds_per_token": usage.rounds // tokens,
        }


def _guesser(draft: str, count: int | None, home: Path | None) -> Any:
    """What guesses the next tokens. A model for it is read before servers are started."""
    from onnxpuma.tasks.folder import ModelFolder
    from onnxpuma.tasks.guesses import guesser_of

    tokenizer = ModelFolder(home).tokenizer if home is not None and draft not in ("none", "prompt") else None
    return guesser_of(draft, count, tokenizer)


def _said_to(pipe: Writer, item: str) -> Any:
    """The text as a user's message for a chat model, unchanged for any other."""
    if pipe.task != "text-generation" or not getattr(pipe.folder.tokenizer, "chat_template", None):
        return item
    from onnxpuma.tasks.text import checked

    return [{"role": "user", "content": checked(item)}]


def _read(
    given: list[str], cluster: Path | None, tokenizer: Path | None, plain: bool
) -> tuple[Path | None, str]:
    """The folder of the model, unless a cluster runs it, and the input."""
    if cluster is not None:
        if plain:
            raise ConfigError("--plain and --cluster contradict each other", "omit one of them")
        if tokenizer is None:
            raise ConfigError(
                "the servers have the model, but no tokenizer", "name a folder with one: --tokenizer gpt2"
            )
    wanted = 1 if cluster is not None else 2
    if len(given) != wanted:
        hint = (
            'onnxpuma generate --cluster cluster.toml --key client.secret --tokenizer gpt2 "Once upon"'
            if cluster is not None
            else 'onnxpuma generate gpt2 "Once upon a time"; quote a text of several words'
        )
        raise ConfigError(f"expected {wanted} argument{'s' * (wanted > 1)}, got {len(given)}", hint)
    return (None, given[0]) if cluster is not None else (Path(given[0]), given[1])


@contextmanager
def writing(
    folder: Path | None,
    tokenizer: Path | None,
    cluster: Path | None,
    key: Path | None,
    task: str | None,
    plain: bool,
    threads: int,
    memory: int | None,
    public_inputs: list[str],
    model: str = "",  # of several at the servers of `cluster`
) -> Iterator[Writer]:
    """The pipeline, which must be one that writes; closed afterwards."""
    from onnxpuma.tasks.build import pipeline, task_named
    from onnxpuma.tasks.folder import ModelFolder
    from onnxpuma.tasks.writer import Writer

    home = tokenizer or folder
    assert home is not None
    if task is not None:
        task_named(task)
    spelling = ModelFolder(home).tokenizer  # fails, if it is missing, before servers are started
    runner = _runner(folder, cluster, key, plain, threads, memory, public_inputs, model)
    with pipeline(task, folder=home, runner=runner, tokenizer=spelling) as pipe:
        if not isinstance(pipe, Writer):
            raise ConfigError(
                f"a model for {pipe.task} writes no text", "use it in Python: onnxpuma.tasks.pipeline"
            )
        yield pipe


def _runner(
    folder: Path | None,
    cluster: Path | None,
    key: Path | None,
    plain: bool,
    threads: int,
    memory: int | None,
    public_inputs: list[str],
    model: str,
) -> Runner:
    from onnxpuma.commands.local import start_servers
    from onnxpuma.tasks.plain import PlainRunner
    from onnxpuma.tasks.secure import SecureRunner, at_servers

    if cluster is not None:
        return at_servers(cluster, key, public_inputs, model)
    assert folder is not None
    if plain:
        return PlainRunner(folder, threads)
    servers = start_servers(folder, threads, public_inputs=public_inputs, memory=memory)
    return SecureRunner(servers.client(), servers)
