"""The terminal: one console for results (standard output), one for progress and remarks (standard error)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

out = Console(highlight=False, soft_wrap=False)
remarks = Console(stderr=True, highlight=False)


@contextmanager
def resumable() -> Iterator[None]:
    """Around work that goes on where it stood: an interrupt ends in one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        remarks.print("interrupted; the same command goes on where it stood", style="yellow")
        raise typer.Exit(130) from None
