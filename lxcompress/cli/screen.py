"""The terminal: one console for results (standard output), one for progress and remarks (standard error)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lxcompress.output import printable_lines


class Screen(Console):
    """A console on which words of others are text alone: their control characters never reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable`, those that rich itself controls the terminal with as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


out = Screen(highlight=False, soft_wrap=False)
remarks = Screen(stderr=True, highlight=False)


@contextmanager
def resumable() -> Iterator[None]:
    """Around work that goes on where it stood: an interrupt ends in one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        remarks.print("interrupted; the same command goes on where it stood", style="yellow")
        raise typer.Exit(130) from None
