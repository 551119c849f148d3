"""The command line: its commands, and their exit statuses.

An error of this package is shown as message and hint, and sets its own exit status. Any other exception is a
fault of the package itself, status 70. `--debug` shows the traceback of either.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from onnxpuma import __version__
from onnxpuma.commands import canary, screen
from onnxpuma.commands.audit import audit
from onnxpuma.commands.chat import chat
from onnxpuma.commands.demo import demo, models
from onnxpuma.commands.gateway import gateway, gateway_key
from onnxpuma.commands.generate import generate
from onnxpuma.commands.help import Commands
from onnxpuma.commands.infer import infer
from onnxpuma.commands.inspect import inspect
from onnxpuma.commands.keys import init, keygen
from onnxpuma.commands.serve import reload, serve
from onnxpuma.commands.share import share
from onnxpuma.commands.status import status
from onnxpuma.commands.validate import validate
from onnxpuma.commands.verify import verify
from onnxpuma.errors import ConfigError, OnnxpumaError
from onnxpuma.roles.server.seclusion import seclude

FAULT = 70  # EX_SOFTWARE of sysexits.h
OUTPUT_CLOSED = 141  # 128 + SIGPIPE
INTERRUPTED = 130  # 128 + SIGINT, as in shells

MORE_MEMORY = "ask for a smaller batch or a shorter sequence, or use a machine with more memory"
MORE_FILES = "raise the limit of open files: `ulimit -n 4096`"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HINTS = {
    **dict.fromkeys(FULL, "free space on that disk, or write elsewhere"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), MORE_FILES),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check who may read and write there"),
    errno.ENOMEM: MORE_MEMORY,
}


@dataclass
class _Run:
    """The settings of one call of the command line."""

    debug: bool = False


app = typer.Typer(
    name="onnxpuma",
    help="Run ONNX Transformers on three servers that learn neither the model nor the data.",
    no_args_is_help=True,
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        screen.say(f"onnxpuma {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    context.obj.debug = debug
    seclude()  # every command handles weights, inputs or keys


for _command in (
    keygen,
    init,
    inspect,
    share,
    serve,
    status,
    reload,
    infer,
    generate,
    chat,
    verify,
    audit,
    validate,
    gateway,
    gateway_key,
    demo,
    models,
):
    app.command()(_command)
app.add_typer(canary.app, name="canary")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit with its status."""
    run = _Run()
    _occupy_closed_streams()
    screen.show_warnings()
    os.environ["HF_HUB_OFFLINE"] = "1"  # commands use the files on this machine and download none
    try:
        app(args=None if arguments is None else list(arguments), prog_name="onnxpuma", obj=run)
    except OnnxpumaError as error:
        if run.debug:
            traceback.print_exc()
        screen.say_error(error)
        sys.exit(error.exit_status)
    except BrokenPipeError:  # the reader of our output has closed it
        screen.abandon(sys.stdout)
        sys.exit(OUTPUT_CLOSED)
    except KeyboardInterrupt:
        screen.note("interrupted")
        sys.exit(INTERRUPTED)
    except Exception as error:
        if run.debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
            screen.abandon(sys.stdout)
        said = _refused_by_the_system(error)
        screen.say_error(
            said
            or OnnxpumaError(
                f"onnxpuma has failed: {type(error).__name__}: {error}",
                "run `onnxpuma --debug ...` and report what it prints",
            )
        )
        sys.exit(FAULT if said is None else said.exit_status)


def _occupy_closed_streams() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr.

    Otherwise the next file or socket would get its number, and with it whatever a library writes there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _refused_by_the_system(error: Exception) -> OnnxpumaError | None:
    """A readable error for a resource that the system refused; None for any other error."""
    if isinstance(error, MemoryError):
        return ConfigError("this machine has not enough memory for that", MORE_MEMORY)
    number = getattr(error, "errno", None)  # the system's errors have one, and ZeroMQ's
    hint = HINTS.get(number) if isinstance(number, int) else None
    if number is None or hint is None:
        return None
    where = getattr(error, "filename", None)
    return ConfigError(f"{where}: {os.strerror(number)}" if where else os.strerror(number), hint)
