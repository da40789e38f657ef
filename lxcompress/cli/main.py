"""The `lxcompress` command: collect all commands, and print an error that the user can fix as one sentence."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import typer

from lxcompress.cli import (
    advise,
    answer,
    bench,
    doctor,
    eval,
    export,
    features,
    init,
    inspect,
    interrupt,
    pick,
    predict,
    pretrain,
    prune,
    push,
    recipes,
    reliability,
    report,
    score,
    serve,
    status,
    study,
    submit,
)
from lxcompress.cli import app as page_app
from lxcompress.cli.data import data_app
from lxcompress.cli.options import EPILOG, LOG, QUIET, VERBOSE, output, set_options, take_options
from lxcompress.errors import LxError
from lxcompress.text import as_sentence
from lxcompress.writing import cannot_write, explain_os_error, find_storage_problem

app = typer.Typer(
    name="lxcompress",
    help="Lottery-ticket pruning of vision-language models: study, pick, prune, export, bench.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (
    init,
    recipes,
    study,
    submit,
    status,
    report,
    reliability,
    pick,
    advise,
    prune,
    inspect,
    export,
    push,
    bench,
    predict,
    eval,
    score,
    doctor,
    pretrain,
    features,
    answer,
    page_app,
    serve,
)
for command in COMMANDS:
    verb = command.__name__.rpartition(".")[2]
    app.command(verb, epilog=EPILOG)(getattr(command, f"{verb}_cli"))
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
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
    """Run the command and exit with its exit code.

    The code is 0 if the command is done, 1 for an error that the user can fix, and 2 for wrong usage. After an
    interrupt it is 128 + the number of the signal, so it is 130 for Ctrl-C.
    """
    _escape_unencodable()
    started = time.monotonic()
    with interrupt.caught():
        status = _run_command()
        if status == 0 and _is_output_full():
            status = _say_error(
                "standard output: cannot be written; free some disk space, or do not redirect the output"
            )
        output.keep("main", f"exit code {status} after {time.monotonic() - started:.1f} s\n")
        sys.exit(status)


def _run_command() -> int:
    """Run the command that the arguments name, and return its exit code."""
    try:
        words = take_options(sys.argv[1:])
        output.keep("main", f"lxcompress {shlex.join(words)}\n")
        _log_to_screen()
        code = app(args=words, prog_name="lxcompress", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except _CommandError as error:
        return _say_usage(error)
    except typer.Abort as error:
        return _say_error("the command asked a question and got no answer; give the answer as an option", error)
    except Exception as error:
        # Any exception: a library may turn an interrupt, or a full disk, into an exception of its own.
        sentence = None if interrupt.is_received() else _explain(error)
        if sentence is None:
            raise
        return _say_error(sentence, error)


def _explain(error: Exception) -> str | None:
    """Return one sentence for an error that the user can fix; None for a fault of this program."""
    if isinstance(error, LxError):
        return str(error)
    number = error.errno if isinstance(error, OSError) else find_storage_problem(error)
    if number is not None and _is_output_full():
        return str(cannot_write("standard output", number))
    if isinstance(error, OSError) or number is not None:
        return str(explain_os_error(error, number))
    return None


def _is_output_full() -> bool:
    """Return whether standard output can take no more text; if so, drop the text that is left.

    Otherwise Python would report the error again at exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w", encoding="utf-8") as null:
            os.dup2(null.fileno(), 1)
        return True
    return False


_CommandError: type[Exception] = typer.BadParameter.__mro__[2]
"""The class ClickException that typer uses; some versions of typer contain a copy of click under another name."""


def _say_error(sentence: str, error: Exception | None = None) -> int:
    """Print an error as one sentence, with --verbose also its traceback before; return the exit code."""
    if output.is_verbose and error is not None:
        traceback.print_exception(error)
    line = as_sentence(f"error: {sentence}")
    typer.secho(line, fg="red", err=True)
    output.keep("main", f"{line}\n")
    return 1


def _say_usage(error: Any) -> int:
    """Print an error in the command line as one sentence; return the exit code."""
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
    """Show the log records of this package: warnings and errors always, the others with --verbose."""
    logger = logging.getLogger("lxcompress")
    logger.handlers = [_RemarkHandler()]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if output.is_verbose else logging.WARNING)


class _RemarkHandler(logging.Handler):
    """A log handler that shows the records of this package on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one log record."""
        from lxcompress.cli.screen import remarks

        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        remarks.print(record.getMessage(), style=style, markup=False, soft_wrap=True)


def _escape_unencodable() -> None:
    """Let standard output and standard error escape characters that their encoding lacks, for example in names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    run()
