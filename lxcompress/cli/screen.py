"""The terminal: one console for results (standard output), one for progress and remarks (standard error)."""

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
    """A console on which words of others are text alone: their control characters never reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable`, those that rich itself controls the terminal with as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


out = Screen(file=cast(IO[str], Tee("stdout", is_muted=False)), highlight=False, soft_wrap=False)
remarks = Screen(file=cast(IO[str], Tee("stderr", is_muted=True)), highlight=False)
warnings = Screen(file=cast(IO[str], Tee("stderr", is_muted=False)), highlight=False)
"""The remarks that --quiet still shows: an interrupt, a result that cannot be trusted."""


@contextmanager
def json_document(*, wanted: bool) -> Iterator[Callable[[Any], None]]:
    """Give a function that prints the one JSON document of a command, which `wanted` says is asked for.

    Until the block ends all else that is printed, by other libraries too, goes to standard error; the document is
    printed last. Without `wanted` nothing is moved, and the function does nothing.
    """
    if not wanted:
        yield lambda document: None
        return
    kept: list[Any] = []
    with _stdout_as_stderr():
        yield kept.append
    for document in kept:
        typer.echo(json_text(document))


@contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """Send standard output to standard error, also what is written past Python."""
    sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        try:
            numbers = sys.__stdout__.fileno(), sys.__stderr__.fileno()  # type: ignore[union-attr]
            kept = os.dup(numbers[0])
        except (
            AttributeError,
            OSError,
            ValueError,
        ):  # no such streams below this process: nothing can be written past it
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
    """Around work that goes on where it stood: an interrupt ends in one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it stood")
        raise typer.Exit(130) from None
