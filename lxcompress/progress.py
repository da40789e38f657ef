"""Progress: the one function type that long work calls to say how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A function that long work calls again and again, to say how far it is."""

    def __call__(self, what: str, /, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Show that `what` has reached `done` of `total`; a total of 0 is unknown.

        `value` is the figure by which this work is followed, if it has one: the loss of a training, or the number of
        images of a conversion.
        """


def no_progress(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
    """Show nothing."""


def relabel(progress: Progress, what: str) -> Progress:
    """Return a Progress that shows `what` instead of the words that the work gives."""

    def show(_: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        progress(what, done, total, value=value)

    return show
