"""The `lxcompress` command: gathers the commands, and turns what a user can fix into one sentence and exit code 1."""

from __future__ import annotations

import io
import sys

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
    report,
    score,
    status,
    study,
)
from lxcompress.cli.data import data_app
from lxcompress.errors import LxError
from lxcompress.text import as_sentence

app = typer.Typer(
    name="lxcompress",
    help="Lottery-ticket pruning of vision-language models: study, pick, prune, export, bench.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (study, status, report, pick, advise, prune, inspect, export, bench, predict, score, doctor, pretrain):
    verb = command.__name__.rpartition(".")[2]
    app.command(verb)(getattr(command, f"{verb}_cli"))
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from lxcompress import __version__

        typer.echo(f"lxcompress {__version__}")
        raise typer.Exit


def run() -> None:
    """The entry point: exit code 0 done, 1 an error that the user can fix, 2 wrong usage, 130 interrupted."""
    _write_anything()
    try:
        app()
    except LxError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        sentence = as_sentence(f"error: {where}{reason}; check the path, its permissions and the free space")
        typer.secho(sentence, fg="red", err=True)
        sys.exit(1)


def _write_anything() -> None:
    """Let both streams write what their encoding lacks as an escape: names and ids may hold any character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    run()
