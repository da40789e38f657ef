"""The `lxcompress` command: gathers the commands, and turns what a user can fix into one sentence and exit code 1."""

from __future__ import annotations

import io
import logging
import shlex
import sys
import time
import traceback
from pathlib import Path

import typer

from lxcompress.cli import (
    advise,
    bench,
    doctor,
    export,
    inspect,
    pick,
    predict,
    pretrain,
    prune,
    recipes,
    report,
    score,
    status,
    study,
)
from lxcompress.cli.data import data_app
from lxcompress.cli.options import EPILOG, LOG, QUIET, VERBOSE, output, set_options, take_options
from lxcompress.errors import LxError
from lxcompress.text import as_sentence

app = typer.Typer(
    name="lxcompress",
    help="Lottery-ticket pruning of vision-language models: study, pick, prune, export, bench.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (
    recipes,
    study,
    status,
    report,
    pick,
    advise,
    prune,
    inspect,
    export,
    bench,
    predict,
    score,
    doctor,
    pretrain,
)
for command in COMMANDS:
    verb = command.__name__.rpartition(".")[2]
    app.command(verb, epilog=EPILOG)(getattr(command, f"{verb}_cli"))
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    quiet: bool = typer.Option(False, "--quiet", help=QUIET),
    verbose: bool = typer.Option(False, "--verbose", help=VERBOSE),
    log: Path | None = typer.Option(None, "--log", metavar="FILE", help=LOG),
) -> None:
    set_options(quiet=quiet, verbose=verbose, log=log)
    if version:
        from lxcompress import __version__

        typer.echo(f"lxcompress {__version__}")
        raise typer.Exit


def run() -> None:
    """The entry point: exit code 0 done, 1 an error that the user can fix, 2 wrong usage, 130 interrupted."""
    _write_anything()
    started = time.monotonic()
    try:
        words = take_options(sys.argv[1:])
        output.keep("main", f"lxcompress {shlex.join(words)}\n")
        _log_to_screen()
        code = app(args=words, prog_name="lxcompress", standalone_mode=False)
        status = code if isinstance(code, int) else 0
    except LxError as error:
        status = _say_error(str(error), error)
    except _CommandError as error:
        status = _say_usage(error)
    except typer.Abort as error:
        status = _say_error("stopped at a question; give its answer as an option", error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        status = _say_error(f"{where}{reason}; check the path, its permissions and the free space", error)
    output.keep("main", f"exit code {status} after {time.monotonic() - started:.1f} s\n")
    sys.exit(status)


_UsageError = typer.BadParameter.__mro__[1]
_CommandError = typer.BadParameter.__mro__[2]
"""Typer brings the classes of click along, in some versions under a name of its own."""


def _say_error(sentence: str, error: Exception) -> int:
    """Print an error as one sentence, after its traceback where --verbose is given; return the exit code."""
    if output.is_verbose:
        traceback.print_exception(error)
    line = as_sentence(f"error: {sentence}")
    typer.secho(line, fg="red", err=True)
    output.keep("main", f"{line}\n")
    return 1


def _say_usage(error: Exception) -> int:
    """Print what is wrong with a command line as one sentence; return the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help text
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "lxcompress"
    message = error.format_message().strip().rstrip(".")
    line = as_sentence(f"error: {message[:1].lower()}{message[1:]}; see {command} --help")
    typer.secho(line, fg="red", err=True)
    output.keep("main", f"{line}\n")
    return error.exit_code


def _log_to_screen() -> None:
    """Show what the package logs as remarks: notices always, the rest with --verbose."""
    logger = logging.getLogger("lxcompress")
    logger.handlers = [_Remarks()]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if output.is_verbose else logging.WARNING)


class _Remarks(logging.Handler):
    """The place where log records of the package are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record as a remark."""
        from lxcompress.cli.screen import remarks

        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        remarks.print(record.getMessage(), style=style, markup=False, soft_wrap=True)


def _write_anything() -> None:
    """Let both streams write what their encoding lacks as an escape: names and ids may hold any character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    run()
