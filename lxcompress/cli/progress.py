"""Show the progress of long work: bars on a terminal, else lines of text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from lxcompress.cli.screen import remarks
from lxcompress.progress import Progress
from lxcompress.units import duration, percent

STEPS_A_RUN = 1000
"""The steps of the study's bar for each run: it counts thousandths of a run."""
SPEED_PERIOD_S = 3600
"""The time left is estimated from this last hour, because a thousandth of a long run takes minutes."""


class StudyBars:
    """A progress bar for the whole study, and one for the current run; it is a StudyReporter."""

    def __init__(self, progress: RichProgress) -> None:
        self.progress = progress
        self.whole: TaskID | None = None
        self.current = progress.add_task("reading data", total=None)
        self.done = self.total = 0

    def prepare(self, what: str) -> None:
        """Show what the study does before its next run."""
        self.progress.update(self.current, description=what)

    def remark(self, what: str) -> None:
        """Print a remark for the user above the bars; it stays on the screen."""
        self.progress.console.print(what, markup=False, style="yellow", soft_wrap=True)

    def begin(self, what: str, done: int, total: int) -> None:
        """Show that the run `what` begins, after `done` of the `total` runs."""
        if self.whole is None:
            self.whole = self.progress.add_task("study", total=total * STEPS_A_RUN)
        self.done, self.total = done, total
        self.progress.update(self.whole, description=f"run {done + 1} of {total}", completed=done * STEPS_A_RUN)
        self.progress.reset(self.current, description=what, total=None)

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Show that the current run has done `done` of its `total` steps."""
        self.progress.update(self.current, completed=done, total=total)
        assert self.whole is not None
        self.progress.update(self.whole, completed=self.done * STEPS_A_RUN + STEPS_A_RUN * done // (total + 1))

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Print the accuracy and the time of the finished run."""
        line = f"{what:<32} {percent(accuracy):>6} %  {duration(duration_s):>12}"
        self.progress.console.print(line, markup=False)


class StudyLines:
    """Lines of text, one for each finished run, with the time left; it is a StudyReporter."""

    def __init__(self) -> None:
        self.done = self.total = 0
        self.started = time.monotonic()

    def prepare(self, what: str) -> None:
        """Show what the study does before its next run."""
        remarks.print(what, markup=False)

    def remark(self, what: str) -> None:
        """Print a remark for the user."""
        remarks.print(what, markup=False, style="yellow", soft_wrap=True)

    def begin(self, what: str, done: int, total: int) -> None:
        """Note that a run begins, after `done` of the `total` runs; show nothing."""
        if done == 0:
            self.started = time.monotonic()
        self.done, self.total = done, total

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Show nothing: a line is printed only when a run is finished."""

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Print the accuracy and the time of the finished run, and the time left."""
        done = self.done + 1
        left = (time.monotonic() - self.started) / done * (self.total - done)
        line = f"{f'[{done}/{self.total}]':>8} {what:<32} {percent(accuracy):>6} %  {duration(duration_s):>12}"
        remarks.print(f"{line}  {duration(left)} left", markup=False, soft_wrap=True)


@contextmanager
def watch_study() -> Iterator[StudyBars | StudyLines]:
    """Yield the StudyReporter that shows a study's progress: bars on a terminal, else lines."""
    if not remarks.is_terminal:
        yield StudyLines()
        return
    with bars() as progress:
        yield StudyBars(progress)


def print_stages(shown: str = "") -> Progress:
    """Return a function that prints a line for each new stage of the work, except the stage `shown`."""

    def say(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        nonlocal shown
        if what != shown:
            shown = what
            remarks.print(what, markup=False, soft_wrap=True)

    return say


@contextmanager
def working(title: str) -> Iterator[Progress]:
    """Show `title`, and yield a function that shows the progress of the work.

    On a terminal the progress is a bar, else a line for each new stage of the work.
    """
    if not remarks.is_terminal:
        remarks.print(title, markup=False, soft_wrap=True)
        yield print_stages(title)
        return
    with bars() as progress:
        shown = progress.add_task(title, total=None)

        def show(what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
            progress.update(shown, description=what, completed=done, total=total or None)

        yield show


def bars() -> RichProgress:
    """Return an object that shows progress bars with the time left; the bars disappear at the end."""
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=remarks,
        transient=True,
        expand=True,
        speed_estimate_period=SPEED_PERIOD_S,
    )
