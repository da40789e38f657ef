"""StudyReporter: how a study reports what it does."""

from __future__ import annotations

from typing import Protocol


class StudyReporter(Protocol):
    """Receives what a study does; a run is one dense training or one cell."""

    def prepare(self, what: str) -> None:
        """Report `what` the study does before its next run."""

    def remark(self, what: str) -> None:
        """Report something that the user should know; no action is needed."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Report that run `what` begins, after `done` of `total` runs."""

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Report that the current run did `done` of its `total` optimizer steps; `value` is its recent loss."""

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Report that run `what` is finished and saved."""


class SilentReporter:
    """A StudyReporter that shows nothing."""

    def prepare(self, what: str) -> None:
        """Show nothing."""

    def remark(self, what: str) -> None:
        """Show nothing."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Show nothing."""

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Show nothing."""

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Show nothing."""
