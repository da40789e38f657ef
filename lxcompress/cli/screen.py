"""The terminal: one console for results (standard output), one for progress and remarks (standard error)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

out = Console(highlight=False, soft_wrap=False)
remarks = Console(stderr=True, highlight=False)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Shows that something is at work; the function it gives says what comes next. Plain lines where no one watches."""
    if remarks.is_terminal:
        with remarks.status(what) as status:
            yield lambda text: status.update(text)
    else:
        remarks.print(what, soft_wrap=True)
        yield lambda text: remarks.print(text, soft_wrap=True)


@contextmanager
def resumable() -> Iterator[None]:
    """Around work that goes on where it stood: an interrupt ends in one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        remarks.print("interrupted; the same command goes on where it stood", style="yellow")
        raise typer.Exit(130) from None
