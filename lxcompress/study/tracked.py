"""TrackedReporter: after each run of a study, send its curves to a tracker; at the end, the table of all runs.

A tracker reads the records of finished runs and takes no part in training, so a study is the same with it and without.
Everything it writes is in RUN/tracking. A tracker that fails is one warning, and the study goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lxcompress.errors import LxError
from lxcompress.recipe import Recipe, dense_id
from lxcompress.records import Dense, Result
from lxcompress.rundir import RunDir, read_dense, read_result
from lxcompress.study.reporter import StudyReporter
from lxcompress.trackers import RunCurves, Tracker, open_tracker

SENT = "sent"
"""The folder in RUN/tracking with an empty file for each run that was sent: a resumed study sends no run twice."""


class TrackedReporter:
    """A StudyReporter that passes everything on to another one, and sends finished runs to a tracker."""

    def __init__(self, inner: StudyReporter, tracker: Tracker, recipe: Recipe, run: RunDir) -> None:
        self.inner, self.tracker, self.recipe, self.run = inner, tracker, recipe, run
        self.is_broken = False

    def prepare(self, what: str) -> None:
        """Pass the preparation on."""
        self.inner.prepare(what)

    def remark(self, what: str) -> None:
        """Pass the remark on."""
        self.inner.remark(what)

    def begin(self, what: str, done: int, total: int) -> None:
        """Pass the beginning of a run on."""
        self.inner.begin(what, done, total)

    def step(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Pass the progress of a run on."""
        self.inner.step(what, done, total, value=value)

    def end(self, what: str, accuracy: float, duration_s: float) -> None:
        """Pass the end of a run on, and send all finished runs that were not sent yet."""
        self.inner.end(what, accuracy, duration_s)
        self.attempt(self.send_runs)

    def send_runs(self) -> None:
        """Send each finished run that was not sent yet."""
        for curves in list_finished(self.recipe, self.run):
            if _claim(self.run.tracking / SENT / curves.run):
                self.tracker.send_run(curves)

    def send_table(self) -> None:
        """Send the finished runs that are left, and the table of all finished runs."""
        self.send_runs()
        self.tracker.send_table(list(list_finished(self.recipe, self.run)))

    def attempt(self, work: Callable[[], None]) -> None:
        """Do `work`; warn once if it fails, and do nothing from then on."""
        if self.is_broken:
            return
        try:
            work()
        except Exception as error:  # a tracker may raise anything, and must not stop a study
            self.is_broken = True
            self.inner.remark(
                f"track={self.recipe.track}: failed ({type(error).__name__}: {str(error)[:200]}); the study goes on "
                "without it"
            )


@contextmanager
def tracked(recipe: Recipe, run: RunDir, reporter: StudyReporter) -> Iterator[StudyReporter]:
    """Yield `reporter`, or with `track` in the recipe one that also sends finished runs to the tracker.

    At the end of the block, also after an error, the table of the finished runs is sent. Raises LxError, before the
    study begins, if the tracker's library is not installed.
    """
    if recipe.track == "none":
        yield reporter
        return
    tracker = open_tracker(recipe.track, recipe.name, run.tracking)
    sending = TrackedReporter(reporter, tracker, recipe, run)
    try:
        yield sending
    finally:
        sending.attempt(sending.send_table)
        sending.attempt(tracker.close)


def list_finished(recipe: Recipe, run: RunDir) -> Iterator[RunCurves]:
    """Yield the curves of each finished run, dense runs first; a record that is damaged is left out."""
    for seed in recipe.seeds:
        with suppress(LxError):
            dense = read_dense(run, seed)
            if dense is not None:
                yield _read_curves(dense_id(seed), dense)
    for cell in recipe.cells():
        with suppress(LxError):
            result = read_result(run, cell)
            if result is not None:
                tags = {"method": cell.method.id, "criterion": result.criterion, "granularity": result.granularity}
                yield _read_curves(cell.id, result, tags)


def _read_curves(name: str, record: Dense | Result, tags: dict[str, str] | None = None) -> RunCurves:
    """Return the curves, the tags and the final figures of a run."""
    figures = {"duration_s": record.duration_s, "steps": float(record.steps)}
    if isinstance(record, Result):
        figures |= {"sparsity": record.sparsity.achieved, "pruned_accuracy": record.pruned.accuracy}
    trained = record.retrained if isinstance(record, Result) else record.trained
    figures["accuracy"] = trained.accuracy
    if record.test is not None:
        figures["test_accuracy"] = record.test.accuracy
    return RunCurves(
        run=name,
        tags={"kind": "cell" if tags else "dense", "seed": str(record.seed), "device": record.device, **(tags or {})},
        curves={
            "train_loss": [epoch.train_loss for epoch in record.epochs],
            "valid_accuracy": [epoch.valid.accuracy for epoch in record.epochs],
        },
        figures=figures,
    )


def _claim(path: Path) -> bool:
    """Make the empty file `path`, and return whether it was not there; only one process makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
