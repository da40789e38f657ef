"""StudyReporter: the interface by which a study reports its progress."""

from __future__ import annotations

from typing import Protocol


class StudyReporter(Protocol):
    """The receiver of a study's progress; a run is one dense training or one cell."""

    def prepare(self, what: str) -> None:
        """Report a preparation: `what` says in words what the study does before its next run."""

    def remark(self, what: str) -> None:
        """Report the sentence `what` to the user, who need not do anything."""

    def begin(self, what: str, done: int, total: int) -> None:
        """Report that the run `what` begins; `done` of `total` runs are finished."""

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Report that the current run has done `done` of `total` optimizer steps; `value` is its most recent loss."""

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Report that the run `what` is finished and saved, with its accuracy (0-1) and its seconds."""


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
