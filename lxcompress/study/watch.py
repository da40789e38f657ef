"""Watch: whoever shows how far a study is."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Hears what a study does; a run is one dense training or one cell."""

    def prepare(self, what: str) -> None:
        """Something is made ready before the first run."""

    def remark(self, what: str) -> None:
        """Something that the user should know, and need not act on."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Run number `done` of `total` begins."""

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """The run at hand has done so many of its optimizer steps."""

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """The run at hand is finished and kept."""


class Unwatched:
    """Hears, and shows nothing."""

    def prepare(self, what: str) -> None:
        """Shows nothing."""

    def remark(self, what: str) -> None:
        """Shows nothing."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Shows nothing."""

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Shows nothing."""

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Shows nothing."""
