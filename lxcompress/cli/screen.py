"""The terminal: one console for results (standard output), and two for progress and remarks (standard error)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any, cast

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lxcompress.cli.interrupt import say
from lxcompress.cli.options import Tee
from lxcompress.output import json_text, printable_lines


class Screen(Console):
    """A console that escapes control characters in text, so that data cannot control the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable` with escaped text; control segments of the library rich stay unchanged."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


out = Screen(file=cast(IO[str], Tee("stdout", is_muted=False)), highlight=False, soft_wrap=False)
remarks = Screen(file=cast(IO[str], Tee("stderr", is_muted=True)), highlight=False)
warnings = Screen(file=cast(IO[str], Tee("stderr", is_muted=False)), highlight=False)
"""The console for remarks that are shown even with --quiet: an interrupt, a result that cannot be trusted."""


@contextmanager
def json_document(*, wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Yield a function that takes the JSON document of a command; print the document when the block ends.

    Inside the block all other output, also that of other libraries, goes to standard error. Without `wanted`, the
    output is not redirected and the function does nothing.
    """
    if not wanted:
        yield lambda document: None
        return
    documents: list[Any] = []
    with _stdout_as_stderr():
        yield documents.append
    for document in documents:
        typer.echo(json_text(document))


@contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """Redirect standard output to standard error, even for code that writes to the file descriptor."""
    sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        try:
            numbers = sys.__stdout__.fileno(), sys.__stderr__.fileno()  # type: ignore[union-attr]
            kept = os.dup(numbers[0])
        except (
            AttributeError,
            OSError,
            ValueError,
        ):  # no file descriptors, so nothing else can write to them
            yield
            return
        os.dup2(numbers[1], numbers[0])
        try:
            yield
        finally:
            os.dup2(kept, numbers[0])
            os.close(kept)


@contextmanager
def resumable() -> Iterator[None]:
    """Run work that can be resumed in this context: an interrupt ends it with one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command resumes")
        raise typer.Exit(130) from None
